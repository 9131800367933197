//! Which addresses belong to the public internet, and which to the metadata service of a cloud.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses at which the machines of a cloud reach its metadata service, from which a program gets keys, beside the
/// link-local ones. Some are in ranges of the public internet.
const METADATA_SERVICES: [IpAddr; 6] = [
    // Azure: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba Cloud: https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud Classic: https://docs.oracle.com/en/cloud/iaas/compute-iaas-cloud/stcsg/retrieving-instance-metadata.html
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS, the instance metadata and the credentials of EKS pods:
    // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
    // https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google Cloud: https://cloud.google.com/compute/docs/metadata/querying-metadata
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address is link-local.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || embedded_v4(address).is_some_and(|address| address.is_link_local())
        }
    }
}

/// Whether an address may be the metadata service of a cloud: most of them have a link-local address.
pub(super) fn is_metadata_service(address: IpAddr) -> bool {
    let translated = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => embedded_v4(address).map(IpAddr::V4),
    };
    is_link_local(address) || METADATA_SERVICES.contains(&translated.unwrap_or(address))
}

/// Whether an address belongs to the public internet, and not to this machine, its network or its cloud.
///
/// The special ranges are those of the registries of IANA that are not globally reachable:
/// <https://www.iana.org/assignments/iana-ipv4-special-registry> and
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>.
pub fn is_public(address: IpAddr) -> bool {
    !is_metadata_service(address)
        && match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        // The relays of 6to4, which are no longer in use (RFC 7526).
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(address) = embedded_v4(address) {
        return is_public_v4(address);
    }
    match address.segments() {
        // Protocol assignments such as Teredo (2001::/23), documentation (2001:db8::/32 and 3fff::/20), and all addresses
        // that are not global unicast: loopback, private, link-local, multicast.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The IPv4 address inside an address to which systems or gateways translate it.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_services_of_clouds_are_not_public() {
        for address in METADATA_SERVICES {
            assert!(is_metadata_service(address) && !is_public(address), "{address}");
        }
        for text in
            ["::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1", "169.254.169.254", "fe80::a9fe:a9fe"]
        {
            let address: IpAddr = text.parse().unwrap();
            assert!(is_metadata_service(address) && !is_public(address), "{text}");
        }
        for text in ["168.63.129.15", "168.63.129.17", "168.63.128.16"] {
            let address: IpAddr = text.parse().unwrap();
            assert!(!is_metadata_service(address) && is_public(address), "{text}");
        }
    }

    #[test]
    fn the_borders_of_special_ranges_are_exact() {
        for (text, expected) in [
            ("192.88.98.255", true),
            ("192.88.99.0", false),
            ("192.88.100.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("198.17.255.255", true),
            ("198.20.0.0", true),
            ("2001:1ff:ffff::1", false),
            ("2001:200::1", true),
            ("2001:db7::1", true),
            ("2001:db9::1", true),
            ("3fff:fff::1", false),
            ("3fff:1000::1", true),
            ("3ffe::1", true),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }
}
