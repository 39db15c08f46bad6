import json

from delivery_s3.permissions import grants


def test_the_minimum_is_put_object_on_bucket_and_prefix() -> None:
    write, read, b2_write, b2_read = grants(bucket="finance", prefix="reports/")
    assert json.loads(write.text)["Statement"] == [
        {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": "arn:aws:s3:::finance/reports/*"}
    ]
    statements = json.loads(read.text)["Statement"]
    assert statements[0]["Action"] == ["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion"]
    assert statements[1]["Resource"] == "arn:aws:s3:::finance"
    assert statements[1]["Condition"] == {"StringLike": {"s3:prefix": "reports/*"}}
    assert b2_write.text == "b2 key create --bucket finance --name-prefix reports/ anaphora writeFiles"
    assert b2_read.text.endswith("writeFiles,readFiles,listFiles")


def test_without_a_prefix_the_policy_covers_the_bucket() -> None:
    write, read, b2_write, _ = grants(bucket="finance", prefix="")
    assert json.loads(write.text)["Statement"][0]["Resource"] == "arn:aws:s3:::finance/*"
    assert "Condition" not in json.loads(read.text)["Statement"][1]
    assert "--name-prefix" not in b2_write.text


def test_lock_and_encryption_key_need_more() -> None:
    write, read, b2_write, _ = grants(bucket="finance", prefix="", object_lock=True, kms_key_id="1234-abcd")
    statements = json.loads(write.text)["Statement"]
    assert statements[0]["Action"] == ["s3:PutObject", "s3:PutObjectRetention"]
    assert statements[1] == {
        "Effect": "Allow",
        "Action": "kms:GenerateDataKey",
        "Resource": "arn:aws:kms:*:*:key/1234-abcd",
    }
    assert json.loads(read.text)["Statement"][2]["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    assert b2_write.text.endswith("writeFiles,writeFileRetentions")


def test_assuming_a_role_must_be_allowed() -> None:
    first = grants(bucket="finance", prefix="", role_arn="arn:aws:iam::1:role/archive")[0]
    assert json.loads(first.text)["Statement"] == [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::1:role/archive"}
    ]


def test_a_missing_bucket_name_has_a_placeholder() -> None:
    assert "arn:aws:s3:::BUCKET/*" in grants(bucket="", prefix="")[0].text
