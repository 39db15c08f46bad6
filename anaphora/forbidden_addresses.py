"""The network addresses to which no request may be sent: cloud metadata services, link-local and reserved addresses,
and, if the installation forbids them, private addresses.
"""

from ipaddress import IPv4Address, IPv6Address, ip_network

Address = IPv4Address | IPv6Address

_METADATA = [
    # Link-local as a whole: AWS, Azure, Google, OpenStack, DigitalOcean, Hetzner, Oracle, Scaleway (169.254.42.42).
    ip_network("169.254.0.0/16"),
    ip_network("fd00:ec2::/32"),  # AWS, "Use the Instance Metadata Service", IPv6
    ip_network("fd20:ce::254/128"),  # Google, "About VM metadata", instances with IPv6 alone
    ip_network("fd00:42::42/128"),  # Scaleway, "Using the Instance metadata API", IPv6
    ip_network("fd00:c1::a9fe:a9fe/128"),  # Oracle, "Getting Instance Metadata", IPv6; the address is in its SDK
    ip_network("fd00:a9fe:a9fe::1/128"),  # Akamai (Linode), "Use the Metadata service API", IPv6
    ip_network("fd00:100::100:200/128"),  # Alibaba Cloud, "Instance metadata", IPv6
    ip_network("100.100.100.200/32"),  # Alibaba Cloud, "Instance metadata"
    ip_network("192.0.0.192/32"),  # Oracle Cloud's older platform
    ip_network("168.63.129.16/32"),  # Azure, "What is IP address 168.63.129.16?"
]
"""Addresses where clouds serve credentials or control a machine, according to the documentation of the providers."""

_UNUSABLE = [
    ip_network("0.0.0.0/8"),
    ip_network("240.0.0.0/4"),
    ip_network("192.0.0.0/24"),
    ip_network("2001:db8::/32"),
]
_SHARED = ip_network("100.64.0.0/10")  # carrier-grade NAT, treated as private
_NAT64 = ip_network("64:ff9b::/96")


def why_forbidden(address: Address, *, allow_private: bool) -> str:
    """Return why connections to `address` are forbidden, in words; empty if they are allowed."""
    address = _embedded_ipv4(address)
    if any(address in network for network in _METADATA if network.version == address.version):
        return "a metadata or link-local address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or any(address in network for network in _UNUSABLE if network.version == address.version):
        return "an unspecified or reserved address"
    if address.is_loopback:
        return "" if allow_private else "a loopback address, which this installation forbids"
    if address.is_private or address in _SHARED or getattr(address, "is_site_local", False):
        return "" if allow_private else "a private address, which this installation forbids"
    return "a reserved address" if address.is_reserved else ""


def _embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 address, or else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    # ::a.b.c.d, the deprecated "IPv4-compatible" form, is still supported by some network stacks.
    if 1 < int(address) <= 0xFFFFFFFF:
        return IPv4Address(int(address))
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
