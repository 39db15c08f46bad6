"""The diagnoses of S3: what can keep a report out of a bucket, in the words of the configuration page.

Those that every kind of destination shares are in `anaphora.deliveries.errors`. `error_mapping` finds the diagnosis
of a foreign error. No I/O.
"""

from anaphora.deliveries.errors import DIAGNOSES, RETRIED, Diagnosis, FailureScope, as_markdown, register

# The network, in the order in which a connection comes about.
HOST_NOT_FOUND = Diagnosis(
    "host_not_found",
    "Host not found",
    "The name service knows no host of the name in Custom endpoint, or can't be reached itself.",
    "Check the spelling of Custom endpoint. If it is right, check this machine's name service (DNS).",
    field="endpoint_url",
    retryable=True,
)
BUCKET_HOST_NOT_FOUND = Diagnosis(
    "bucket_host_not_found",
    "No host of the bucket's name",
    "The name service knows the host in Custom endpoint, but not with the bucket's name in front of it, as AWS S3 "
    "and some others have it.",
    "Choose the Provider whose endpoint this is, such as MinIO; or set Addressing style to path.",
    field="provider",
)
HOST_UNREACHABLE = Diagnosis(
    "host_unreachable",
    "Host not reachable",
    "This machine has no network path to the endpoint.",
    "Check the address in Custom endpoint, this machine's network and the firewall between the two.",
    field="endpoint_url",
    retryable=True,
)
CONNECTION_REFUSED = Diagnosis(
    "connection_refused",
    "Connection refused",
    "The host is there, but nothing accepts connections on that port.",
    "Check the port in Custom endpoint, and whether the S3 server is running.",
    field="endpoint_url",
    retryable=True,
)
CONNECTION_TIMEOUT = Diagnosis(
    "connection_timeout",
    "Connection timeout",
    "The endpoint didn't answer a connection attempt in time. A firewall that drops packets looks like this.",
    "Check host and port in Custom endpoint, and allow this machine through the firewall.",
    field="endpoint_url",
    retryable=True,
)
READ_TIMEOUT = Diagnosis(
    "read_timeout",
    "No answer in time",
    "The endpoint accepted the connection and then fell silent. It may be overloaded, or be no S3 server.",
    f"{RETRIED} If it persists, check Custom endpoint and the server's own log.",
    field="endpoint_url",
    retryable=True,
    scope=FailureScope.EITHER,
)
CONNECTION_LOST = Diagnosis(
    "connection_lost",
    "Connection lost",
    "The connection broke while the file was on its way or before the answer was complete.",
    f"{RETRIED} If it persists, look at proxies and load balancers between here and the endpoint.",
    field="endpoint_url",
    retryable=True,
    scope=FailureScope.EITHER,
)
PROXY_FAILED = Diagnosis(
    "proxy_failed",
    "Proxy failed",
    "The proxy that this machine's environment names (HTTPS_PROXY, HTTP_PROXY) can't be used.",
    "Correct or remove those variables, or add the endpoint's host to NO_PROXY.",
    retryable=True,
)
NOT_S3 = Diagnosis(
    "not_s3",
    "Not an S3 endpoint",
    "Something answered, but not as S3 does: a web site, a proxy's page or another service.",
    "Check Custom endpoint: it must be the address of the S3 API, which often has a port of its own; a "
    "server's web console doesn't serve.",
    field="endpoint_url",
    of_one_object=True,
)
HTTPS_EXPECTED = Diagnosis(
    "https_expected",
    "http spoken to an https port",
    "Custom endpoint says http, but the port speaks https.",
    "Begin Custom endpoint with https://.",
    field="endpoint_url",
)
HTTP_EXPECTED = Diagnosis(
    "http_expected",
    "https spoken to an http port",
    "Custom endpoint says https, but the port speaks plain http.",
    "Begin Custom endpoint with http:// if the network between is your own, or name the server's https port.",
    field="endpoint_url",
)
TEST_TOO_SLOW = Diagnosis(
    "test_too_slow",
    "Test stopped after 20 seconds",
    "The endpoint answers, but so slowly that the test did not come to its end.",
    "Try again. If it persists, look at the network and at the load of the server; deliveries wait longer than "
    "the test does, but would be slow.",
    field="endpoint_url",
    retryable=True,
)

# TLS. All of these begin with the manual's words.
CERTIFICATE_UNREADABLE = Diagnosis(
    "certificate_unreadable",
    "SSL certificate error: malformed",
    "The endpoint shows a certificate that isn't made as the standard says, for example of an unknown version or "
    "with a date that isn't one.",
    "Have the endpoint's certificate issued anew, by a program that follows the standard.",
)
CERTIFICATE_SELF_SIGNED = Diagnosis(
    "certificate_self_signed",
    "SSL certificate error: self-signed",
    "The endpoint shows a certificate that it issued to itself, and nothing here vouches for it.",
    "If it is your own server, paste its certificate (PEM) into CA bundle. Otherwise don't trust it.",
    field="ca_bundle",
)
CERTIFICATE_UNKNOWN_ISSUER = Diagnosis(
    "certificate_unknown_issuer",
    "SSL certificate error: unknown issuer",
    "The endpoint's certificate was issued by an authority that isn't trusted here.",
    "Paste that authority's certificate (PEM) into CA bundle. If CA bundle holds one already, it is not the "
    "one that issued this certificate.",
    field="ca_bundle",
)
CERTIFICATE_EXPIRED = Diagnosis(
    "certificate_expired",
    "SSL certificate error: expired",
    "The endpoint's certificate is past its last day, or this machine's clock is wrong.",
    "Renew the certificate on the server; check this machine's clock.",
    field="endpoint_url",
)
CERTIFICATE_NOT_YET_VALID = Diagnosis(
    "certificate_not_yet_valid",
    "SSL certificate error: not yet valid",
    "The endpoint's certificate becomes valid only in the future, or this machine's clock is slow.",
    "Check this machine's clock, then the certificate on the server.",
    field="endpoint_url",
)
CERTIFICATE_WRONG_HOST = Diagnosis(
    "certificate_wrong_host",
    "SSL certificate error: another host's",
    "The certificate is valid, but for other host names than the one in Custom endpoint.",
    "Write the host in Custom endpoint as the certificate names it. If only the bucket's name in front is "
    "the trouble, set Addressing style to path.",
    field="endpoint_url",
)
TLS_FAILED = Diagnosis(
    "tls_failed",
    "SSL certificate error: no secure connection",
    "The two sides couldn't agree on a secure connection.",
    "Check the port in Custom endpoint and the server's TLS set-up.",
    field="endpoint_url",
)
CA_BUNDLE_INVALID = Diagnosis(
    "ca_bundle_invalid",
    "SSL certificate error: CA bundle unusable",
    "The text in CA bundle holds no certificate that can be read.",
    "Paste one or more certificates in PEM form, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
    field="ca_bundle",
)

# Credentials.
INVALID_ACCESS_KEY = Diagnosis(
    "invalid_access_key",
    "Invalid credentials: unknown access key ID",
    "The store knows no such access key ID. It may have been deleted, or belong to another store.",
    "Copy Access key ID again from where it was issued, and check that Custom endpoint is the same provider's.",
    field="access_key_id",
)
WRONG_SECRET = Diagnosis(
    "wrong_secret",
    "Invalid credentials: wrong secret access key",
    "The store knows the access key ID, but the secret doesn't belong to it. Some stores answer the same for "
    "an access key ID that they don't know.",
    "Paste Secret access key again, without blanks. If it is lost, issue a new pair and enter both halves.",
    field="secret_access_key",
)
EXPIRED_TOKEN = Diagnosis(
    "expired_token",
    "Invalid credentials: expired",
    "These are temporary credentials that have expired or that miss their session token.",
    "Use a permanent pair of Access key ID and Secret access key.",
    field="access_key_id",
)
ROLE_DENIED = Diagnosis(
    "role_denied",
    "Role refused",
    "The credentials are good, but they may not assume the role in Role to assume, or there is no such role.",
    "Allow sts:AssumeRole on this role to whom the credentials belong, and let the role's trust policy name them; "
    "check Role to assume and External ID.",
    field="role_arn",
)
CREDENTIALS_MISSING = Diagnosis(
    "credentials_missing",
    "Invalid credentials: none",
    "There is nothing to sign the request with: no complete pair of keys, or no role of this machine where one is "
    "asked for.",
    "Fill in both Access key ID and Secret access key; or give this machine a role.",
    field="access_key_id",
)
SECRET_UNREADABLE = Diagnosis(
    "secret_unreadable",
    "Stored secret can't be decrypted",
    "The secret access key was encrypted with a key that FERNET_KEYS no longer holds.",
    "Put the old key back at the end of FERNET_KEYS, or enter Secret access key again.",
    field="secret_access_key",
)
CLOCK_SKEW = Diagnosis(
    "clock_skew",
    "Clock differs from the store's",
    "Requests carry the time, and the store refuses those that are more than some minutes off.",
    "Set this machine's clock right, with NTP for instance.",
    retryable=True,
)
ACCOUNT_PROBLEM = Diagnosis(
    "account_problem",
    "Account not in order",
    "The store knows the account but doesn't serve it: a payment, a sign-up or a suspension stands in the way.",
    "Sign in at the provider and look at the account's state.",
    field="access_key_id",
)

# The bucket.
BUCKET_NOT_FOUND = Diagnosis(
    "bucket_not_found",
    "Bucket not found",
    "The store has no bucket of that name. The connection and the keys are in order.",
    "Check the spelling of Bucket name, and Region and Custom endpoint; or create the bucket first.",
    field="bucket_name",
)
WRONG_REGION = Diagnosis(
    "wrong_region",
    "Bucket in another region",
    "The bucket exists, but not in the region that is filled in.",
    "Set Region to the bucket's own.",
    field="region",
)
REDIRECTED = Diagnosis(
    "redirected",
    "Bucket at another address",
    "The endpoint says that this bucket is served elsewhere. Redirects aren't followed.",
    "Set Region and Custom endpoint to the bucket's own; for AWS S3 leave Custom endpoint empty.",
    field="endpoint_url",
)
SETTINGS_INVALID = Diagnosis(
    "settings_invalid",
    "Settings not usable",
    "One of the values can't be made into a request.",
    "Check the form of Bucket name, Region and Custom endpoint (https://host or https://host:port).",
    field="endpoint_url",
)
ENDPOINT_FORBIDDEN = Diagnosis(
    "endpoint_forbidden",
    "Endpoint forbidden by the security settings",
    "The address lies in a range that this installation doesn't connect to.",
    "Use another Custom endpoint, or ask whoever runs this installation.",
    field="endpoint_url",
)

# What the store doesn't allow.
ACCESS_DENIED = Diagnosis(
    "access_denied",
    "Access Denied",
    "The keys are valid, but may not write here. With AWS, where all accounts share the bucket names, the bucket "
    "may also be somebody else's.",
    "Grant s3:PutObject on this bucket and Key prefix to the key's owner; no other permission is needed. "
    "Check that Bucket name is the one that the permission names.",
    field="bucket_name",
    of_one_object=True,
)
EXPLICIT_DENY = Diagnosis(
    "explicit_deny",
    "Access Denied by a policy",
    "A policy forbids the write outright, whatever else is granted: often a bucket policy that demands "
    "encryption, a network or a prefix.",
    "Have the deny statement changed, or set what it demands: Server-side encryption or Key prefix.",
    field="bucket_name",
    of_one_object=True,
)
KMS_DENIED = Diagnosis(
    "kms_denied",
    "Access Denied to the encryption key",
    "The write itself is allowed, but the keys may not use the KMS key that encrypts the bucket.",
    "Grant kms:GenerateDataKey on that key, or choose another Server-side encryption.",
    field="kms_key_id",
    of_one_object=True,
)
KMS_KEY_UNKNOWN = Diagnosis(
    "kms_key_unknown",
    "Encryption key unknown or disabled",
    "The store can't encrypt with the KMS key that is filled in.",
    "Check KMS key ID, that the key is enabled, and that it lies in the bucket's region.",
    field="kms_key_id",
    of_one_object=True,
)
ENCRYPTION_UNSUPPORTED = Diagnosis(
    "encryption_unsupported",
    "Encryption not supported",
    "The store can't encrypt in the way that is chosen, or not as it is set up now.",
    "Set Server-side encryption to the bucket's default, or set up encryption on the server.",
    field="server_side_encryption",
)
OBJECT_LOCK_UNSUPPORTED = Diagnosis(
    "object_lock_unsupported",
    "Object Lock not possible",
    "The bucket isn't set up for Object Lock, or the store doesn't know it.",
    "Enable Object Lock on the bucket (with many stores only when it is created), or set Object Lock to none.",
    field="object_lock_mode",
)
RETENTION_REFUSED = Diagnosis(
    "retention_refused",
    "Retention refused",
    "The store doesn't accept this retention: it may be too long, too short, or not permitted to these keys.",
    "Change Retention, or grant s3:PutObjectRetention.",
    field="retention_days",
)
STORAGE_CLASS_UNSUPPORTED = Diagnosis(
    "storage_class_unsupported",
    "Storage class not supported",
    "The store doesn't know the storage class that is filled in.",
    "Empty Storage class, or enter one that the store offers.",
    field="storage_class",
)
CHECKSUM_UNSUPPORTED = Diagnosis(
    "checksum_unsupported",
    "Checksum not supported",
    "The store refuses a request that carries a SHA-256 checksum.",
    "Set Provider to the one that you use; if it is, report the store as one that we should know.",
    field="provider",
)
CONDITION_UNSUPPORTED = Diagnosis(
    "condition_unsupported",
    "Conditional write not supported",
    "The store refuses a write on the condition that the key is free.",
    "Set Provider to the one that you use; if it is, report the store as one that we should know.",
    field="provider",
)
REQUEST_REFUSED = Diagnosis(
    "request_refused",
    "Request refused",
    "The store understood the request and doesn't accept it as it is.",
    "The detail says what the store objects to. Check the settings below the first six first.",
    of_one_object=True,
)
METADATA_TOO_LARGE = Diagnosis(
    "metadata_too_large",
    "Description too long for the store",
    "The report's file name, percent-encoded, is longer than what this store takes as an object's metadata.",
    "Take the file in again under a shorter name, and cancel this delivery.",
    scope=FailureScope.REPORT,
)
QUOTA_EXCEEDED = Diagnosis(
    "quota_exceeded",
    "Store full",
    "A quota of the bucket or the account is used up, or the store's disks are full.",
    "Raise the quota or make room; deliveries then go on by themselves.",
    field="bucket_name",
    retryable=True,
)

# Passing troubles of the store.
THROTTLED = Diagnosis(
    "throttled",
    "Store asks to slow down",
    "The store gets more requests than it allows.",
    f"{RETRIED} If it persists, lower DELIVERY_CONCURRENCY or raise the limit at the provider.",
    retryable=True,
)
SERVER_ERROR = Diagnosis(
    "server_error",
    "Error inside the store",
    "The store failed while it handled the request.",
    f"{RETRIED} If it persists, look at the provider's status page or the server's log.",
    retryable=True,
    scope=FailureScope.EITHER,
)
CONFLICT = Diagnosis(
    "conflict",
    "Write in conflict",
    "Another write to the same key was under way.",
    RETRIED,
    retryable=True,
    scope=FailureScope.REPORT,
)
TOO_LARGE = Diagnosis(
    "too_large",
    "Too large for the store",
    "The store, or a proxy before it, doesn't accept a file of this size in one upload.",
    "Raise the limit of the store or the proxy, then retry the delivery.",
    scope=FailureScope.REPORT,
)
AMBIENT_CONFIGURATION = Diagnosis(
    "ambient_configuration",
    "Ambient configuration in the way",
    "AWS settings of this machine (environment variables, ~/.aws) keep the S3 client from starting.",
    "Remove the AWS_… variables and profiles from the environment of the web server and the workers.",
)
UNKNOWN = Diagnosis(
    "unknown",
    "Unexpected answer",
    "The store answered with an error that this catalogue doesn't know.",
    "The detail names the error and the request. Look it up in the store's documentation or its log.",
    of_one_object=True,
)

register(globals())

if __name__ == "__main__":
    print(as_markdown(DIAGNOSES.values()))  # noqa: T201
