"""The diagnoses of S3: every reason why a report cannot be stored in a bucket, in the words of the configuration page.

The diagnoses that all kinds of destination share are in `anaphora.deliveries.errors`. `error_mapping` maps exceptions
and S3 error codes to diagnoses. No I/O.
"""

from anaphora.deliveries.errors import DIAGNOSES, RETRIED, Diagnosis, FailureScope, as_markdown, register

# The network, in the order in which a connection is made.
HOST_NOT_FOUND = Diagnosis(
    "host_not_found",
    "Host not found",
    "DNS cannot resolve the host in Custom endpoint, or the DNS server cannot be reached.",
    "Check the spelling of Custom endpoint. If it is correct, check the DNS settings of this machine.",
    field="endpoint_url",
    retryable=True,
)
BUCKET_HOST_NOT_FOUND = Diagnosis(
    "bucket_host_not_found",
    "Bucket host not found",
    "DNS resolves the host in Custom endpoint, but not the host with the bucket name in front (bucket.host), which "
    "virtual-hosted-style addresses need.",
    "Choose the Provider that this endpoint belongs to, such as MinIO, or set Addressing style to path.",
    field="provider",
)
HOST_UNREACHABLE = Diagnosis(
    "host_unreachable",
    "Host not reachable",
    "This machine has no network route to the endpoint.",
    "Check the address in Custom endpoint, the network of this machine and the firewalls between this machine and "
    "the endpoint.",
    field="endpoint_url",
    retryable=True,
)
CONNECTION_REFUSED = Diagnosis(
    "connection_refused",
    "Connection refused",
    "The host is reachable, but no server accepts connections on this port.",
    "Check the port in Custom endpoint, and check that the S3 server is running.",
    field="endpoint_url",
    retryable=True,
)
CONNECTION_TIMEOUT = Diagnosis(
    "connection_timeout",
    "Connection timeout",
    "The endpoint did not accept a connection in time. A firewall that drops packets is a common cause.",
    "Check the host and the port in Custom endpoint, and allow connections from this machine in the firewall.",
    field="endpoint_url",
    retryable=True,
)
READ_TIMEOUT = Diagnosis(
    "read_timeout",
    "No answer in time",
    "The endpoint accepted the connection but did not respond in time. It may be overloaded, or it may not be an S3 "
    "server.",
    f"{RETRIED} If the problem persists, check Custom endpoint and the log of the S3 server.",
    field="endpoint_url",
    retryable=True,
    scope=FailureScope.EITHER,
)
CONNECTION_LOST = Diagnosis(
    "connection_lost",
    "Connection lost",
    "The connection was closed before the file was sent or before the answer was complete.",
    f"{RETRIED} If the problem persists, check the proxies and load balancers between this machine and the endpoint.",
    field="endpoint_url",
    retryable=True,
    scope=FailureScope.EITHER,
)
PROXY_FAILED = Diagnosis(
    "proxy_failed",
    "Proxy failed",
    "The proxy in this machine's environment variables (HTTPS_PROXY, HTTP_PROXY) cannot be used.",
    "Correct or remove these variables, or add the host of the endpoint to NO_PROXY.",
    retryable=True,
)
NOT_S3 = Diagnosis(
    "not_s3",
    "Not an S3 endpoint",
    "The answer does not come from the S3 API. It may come from a website, a proxy or another service.",
    "Check Custom endpoint. It must be the address of the S3 API, which often has its own port. The address of the "
    "server's web console does not work.",
    field="endpoint_url",
    of_one_object=True,
)
HTTPS_EXPECTED = Diagnosis(
    "https_expected",
    "HTTP sent to an HTTPS port",
    "Custom endpoint begins with http://, but the port expects HTTPS.",
    "Change http:// to https:// in Custom endpoint.",
    field="endpoint_url",
)
HTTP_EXPECTED = Diagnosis(
    "http_expected",
    "HTTPS sent to an HTTP port",
    "Custom endpoint begins with https://, but the port expects plain HTTP.",
    "Enter the server's HTTPS port in Custom endpoint. If you trust the network between this machine and the "
    "endpoint, you can use http:// instead.",
    field="endpoint_url",
)
TEST_TOO_SLOW = Diagnosis(
    "test_too_slow",
    "Test stopped after 20 seconds",
    "The endpoint responds, but too slowly to complete the test.",
    "Test again. If the problem persists, check the network and the load of the server. Deliveries have longer "
    "timeouts than the test, but they will be slow.",
    field="endpoint_url",
    retryable=True,
)

# TLS. Each title begins with the words of the manual.
CERTIFICATE_UNREADABLE = Diagnosis(
    "certificate_unreadable",
    "SSL certificate error: malformed",
    "The endpoint presents a certificate that does not follow the standard (RFC 5280). For example, its version is "
    "unknown or one of its dates is invalid.",
    "Replace the certificate of the endpoint with one that follows the standard.",
)
CERTIFICATE_SELF_SIGNED = Diagnosis(
    "certificate_self_signed",
    "SSL certificate error: self-signed",
    "The endpoint presents a self-signed certificate that is not trusted on this machine.",
    "If this is your own server, paste its certificate (PEM) into CA bundle. Otherwise, do not trust it.",
    field="ca_bundle",
)
CERTIFICATE_UNKNOWN_ISSUER = Diagnosis(
    "certificate_unknown_issuer",
    "SSL certificate error: unknown issuer",
    "The certificate of the endpoint was issued by a certificate authority that is not trusted on this machine.",
    "Paste the certificate of that authority (PEM) into CA bundle. If CA bundle already contains a certificate, it "
    "is not the one that issued this certificate.",
    field="ca_bundle",
)
CERTIFICATE_EXPIRED = Diagnosis(
    "certificate_expired",
    "SSL certificate error: expired",
    "The certificate of the endpoint has expired, or the clock of this machine is wrong.",
    "Renew the certificate on the server, and check the clock of this machine.",
    field="endpoint_url",
)
CERTIFICATE_NOT_YET_VALID = Diagnosis(
    "certificate_not_yet_valid",
    "SSL certificate error: not yet valid",
    "The certificate of the endpoint is not valid yet, or the clock of this machine is slow.",
    "Check the clock of this machine first, then the certificate on the server.",
    field="endpoint_url",
)
CERTIFICATE_WRONG_HOST = Diagnosis(
    "certificate_wrong_host",
    "SSL certificate error: wrong host name",
    "The certificate is valid, but not for the host in Custom endpoint.",
    "Enter the host in Custom endpoint as it is written in the certificate. If only the bucket name in front of the "
    "host does not match, set Addressing style to path.",
    field="endpoint_url",
)
TLS_FAILED = Diagnosis(
    "tls_failed",
    "SSL certificate error: no secure connection",
    "The TLS handshake with the endpoint failed.",
    "Check the port in Custom endpoint and the TLS configuration of the server.",
    field="endpoint_url",
)
CA_BUNDLE_INVALID = Diagnosis(
    "ca_bundle_invalid",
    "SSL certificate error: invalid CA bundle",
    "CA bundle contains no certificate that can be read.",
    "Paste one or more certificates in PEM format, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
    field="ca_bundle",
)

# Credentials.
INVALID_ACCESS_KEY = Diagnosis(
    "invalid_access_key",
    "Invalid credentials: unknown access key ID",
    "The access key ID does not exist. It may have been deleted, or it may belong to another provider.",
    "Copy Access key ID again from the place where it was created, and check that Custom endpoint belongs to the "
    "same provider.",
    field="access_key_id",
)
WRONG_SECRET = Diagnosis(
    "wrong_secret",
    "Invalid credentials: wrong secret access key",
    "The secret access key does not match the access key ID. Some stores give the same answer if the access key ID "
    "does not exist.",
    "Enter Secret access key again, without spaces. If the secret is lost, create a new access key and enter both "
    "Access key ID and Secret access key.",
    field="secret_access_key",
)
EXPIRED_TOKEN = Diagnosis(
    "expired_token",
    "Invalid credentials: expired",
    "These are temporary credentials. They have expired, or their session token is missing.",
    "Use a permanent pair of Access key ID and Secret access key.",
    field="access_key_id",
)
ROLE_DENIED = Diagnosis(
    "role_denied",
    "Role refused",
    "The credentials are valid, but they are not allowed to assume the role in Role to assume, or the role does not "
    "exist.",
    "Grant sts:AssumeRole on this role to the owner of the credentials, and allow this owner in the trust policy of "
    "the role. Check Role to assume and External ID.",
    field="role_arn",
)
CREDENTIALS_MISSING = Diagnosis(
    "credentials_missing",
    "Invalid credentials: none",
    "There are no credentials to sign requests with: the access key is incomplete, or this machine has no role "
    "although Credentials is set to this machine's role.",
    "Enter both Access key ID and Secret access key, or assign a role to this machine.",
    field="access_key_id",
)
SECRET_UNREADABLE = Diagnosis(
    "secret_unreadable",
    "Stored secret cannot be decrypted",
    "The secret access key was encrypted with a key that is no longer in FERNET_KEYS.",
    "Add the old key to the end of FERNET_KEYS, or enter Secret access key again.",
    field="secret_access_key",
)
CLOCK_SKEW = Diagnosis(
    "clock_skew",
    "Clock differs from the store's",
    "The clock of this machine differs from the clock of the store by more than a few minutes, so the store refuses "
    "its requests.",
    "Set the clock of this machine, for example with NTP.",
    retryable=True,
)
ACCOUNT_PROBLEM = Diagnosis(
    "account_problem",
    "Account problem",
    "The account exists, but it is blocked by a payment, sign-up or suspension.",
    "Sign in to the provider and check the status of the account.",
    field="access_key_id",
)

# The bucket.
BUCKET_NOT_FOUND = Diagnosis(
    "bucket_not_found",
    "Bucket not found",
    "The bucket does not exist. The connection and the credentials work.",
    "Check the spelling of Bucket name, and check Region and Custom endpoint. If the bucket does not exist yet, "
    "create it.",
    field="bucket_name",
)
WRONG_REGION = Diagnosis(
    "wrong_region",
    "Bucket in another region",
    "The bucket exists, but not in the region that is set in Region.",
    "Set Region to the region of the bucket.",
    field="region",
)
REDIRECTED = Diagnosis(
    "redirected",
    "Bucket at another address",
    "The endpoint redirects requests for this bucket to another address. Anaphora does not follow redirects.",
    "Set Region and Custom endpoint to those of the bucket. For AWS S3, leave Custom endpoint empty.",
    field="endpoint_url",
)
SETTINGS_INVALID = Diagnosis(
    "settings_invalid",
    "Invalid settings",
    "No valid request can be made from these settings.",
    "Check the format of Bucket name, Region and Custom endpoint (https://host or https://host:port).",
    field="endpoint_url",
)
ENDPOINT_FORBIDDEN = Diagnosis(
    "endpoint_forbidden",
    "Endpoint forbidden by the security settings",
    "The address of the endpoint is in a range that this installation does not connect to.",
    "Use another Custom endpoint, or ask the administrator of this installation.",
    field="endpoint_url",
)

# Requests that the store does not allow or does not support.
ACCESS_DENIED = Diagnosis(
    "access_denied",
    "Access Denied",
    "The credentials are valid, but they are not allowed to write to this location. Bucket names are shared by all "
    "AWS accounts, so the bucket may also belong to another account.",
    "Grant s3:PutObject on this bucket and Key prefix to the owner of the credentials. No other permission is "
    "needed. Check that Bucket name is the bucket that the permission names.",
    field="bucket_name",
    of_one_object=True,
)
EXPLICIT_DENY = Diagnosis(
    "explicit_deny",
    "Access Denied by a policy",
    "A policy explicitly denies the write. This is often a bucket policy that requires encryption, a network or a key "
    "prefix.",
    "Change the deny statement, or set what it requires, for example Server-side encryption or Key prefix.",
    field="bucket_name",
    of_one_object=True,
)
KMS_DENIED = Diagnosis(
    "kms_denied",
    "Access Denied to the encryption key",
    "The write is allowed, but the credentials are not allowed to use the KMS key that encrypts the bucket.",
    "Grant kms:GenerateDataKey on this KMS key, or choose another Server-side encryption.",
    field="kms_key_id",
    of_one_object=True,
)
KMS_KEY_UNKNOWN = Diagnosis(
    "kms_key_unknown",
    "Encryption key unknown or disabled",
    "The store cannot encrypt with the KMS key in KMS key ID.",
    "Check KMS key ID. Check that the key is enabled and that it is in the region of the bucket.",
    field="kms_key_id",
    of_one_object=True,
)
ENCRYPTION_UNSUPPORTED = Diagnosis(
    "encryption_unsupported",
    "Encryption not supported",
    "The store does not support the chosen Server-side encryption, or it is not configured on the server.",
    "Leave Server-side encryption empty to use the bucket's default, or configure encryption on the server.",
    field="server_side_encryption",
)
OBJECT_LOCK_UNSUPPORTED = Diagnosis(
    "object_lock_unsupported",
    "Object Lock not possible",
    "Object Lock is not enabled on the bucket, or the store does not support it.",
    "Enable Object Lock on the bucket, or leave Object Lock empty. Many stores can enable it only when the bucket is "
    "created.",
    field="object_lock_mode",
)
RETENTION_REFUSED = Diagnosis(
    "retention_refused",
    "Retention refused",
    "The store does not accept this retention. It may be too long or too short, or the credentials may not be "
    "allowed to set it.",
    "Change Retention, or grant s3:PutObjectRetention.",
    field="retention_days",
)
STORAGE_CLASS_UNSUPPORTED = Diagnosis(
    "storage_class_unsupported",
    "Storage class not supported",
    "The store does not support the storage class in Storage class.",
    "Leave Storage class empty, or enter a storage class that the store supports.",
    field="storage_class",
)
CHECKSUM_UNSUPPORTED = Diagnosis(
    "checksum_unsupported",
    "Checksum not supported",
    "The store refuses requests with a SHA-256 checksum.",
    "Set Provider to the provider that you use. If it is already set, report this store to the developers of Anaphora.",
    field="provider",
)
CONDITION_UNSUPPORTED = Diagnosis(
    "condition_unsupported",
    "Conditional write not supported",
    "The store refuses conditional writes (If-None-Match).",
    "Set Provider to the provider that you use. If it is already set, report this store to the developers of Anaphora.",
    field="provider",
)
REQUEST_REFUSED = Diagnosis(
    "request_refused",
    "Request refused",
    "The store understood the request but did not accept it.",
    "The detail contains the reason that the store gave. Check the optional settings first: encryption, Object Lock, "
    "storage class and addressing style.",
    of_one_object=True,
)
METADATA_TOO_LARGE = Diagnosis(
    "metadata_too_large",
    "Object metadata too large",
    "The file name of the report, percent-encoded, is longer than the object metadata that this store accepts.",
    "Upload the file again under a shorter name, and cancel this delivery.",
    scope=FailureScope.REPORT,
)
QUOTA_EXCEEDED = Diagnosis(
    "quota_exceeded",
    "Store full",
    "The quota of the bucket or of the account is exceeded, or the disks of the store are full.",
    "Raise the quota or free space. Waiting deliveries will then start automatically.",
    field="bucket_name",
    retryable=True,
)

# Temporary problems of the store.
THROTTLED = Diagnosis(
    "throttled",
    "Store asks to slow down",
    "The store receives more requests than it allows.",
    f"{RETRIED} If the problem persists, lower DELIVERY_CONCURRENCY or raise the limit at the provider.",
    retryable=True,
)
SERVER_ERROR = Diagnosis(
    "server_error",
    "Error inside the store",
    "An error occurred in the store while it processed the request.",
    f"{RETRIED} If the problem persists, check the provider's status page or the log of the server.",
    retryable=True,
    scope=FailureScope.EITHER,
)
CONFLICT = Diagnosis(
    "conflict",
    "Write conflict",
    "Another write to the same key was in progress.",
    RETRIED,
    retryable=True,
    scope=FailureScope.REPORT,
)
TOO_LARGE = Diagnosis(
    "too_large",
    "Too large for the store",
    "The store, or a proxy in front of it, does not accept a file of this size in one request.",
    "Raise the limit of the store or of the proxy, then retry the delivery.",
    scope=FailureScope.REPORT,
)
AMBIENT_CONFIGURATION = Diagnosis(
    "ambient_configuration",
    "Invalid AWS configuration on this machine",
    "AWS settings of this machine (environment variables, ~/.aws) prevent the S3 client from starting.",
    "Remove the AWS_… variables and profiles from the environment of the web server and the workers.",
)
UNKNOWN = Diagnosis(
    "unknown",
    "Unexpected answer",
    "The store returned an unknown error.",
    "The detail contains the error and the request ID. Look the error up in the documentation or the log of the store.",
    of_one_object=True,
)

register(globals())

if __name__ == "__main__":
    print(as_markdown(DIAGNOSES.values()))  # noqa: T201
