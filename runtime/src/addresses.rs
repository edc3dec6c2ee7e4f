//! Addresses that are never called, wherever a name leads: those at which clouds hand out credentials, and what the operator
//! is told beside. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.96.0.0/12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The lowest address.
    first: IpAddr,
    /// How many of its leading bits all of them have.
    bits: u8,
}

/// Link-local addresses, and the one of IPv6 that Amazon's servers of credentials have beside.
const ALWAYS: [Range; 3] = [
    Range { first: IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), bits: 16 },
    Range { first: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), bits: 10 },
    Range { first: IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), bits: 128 },
];

impl Range {
    /// Whether an address is in the range.
    fn has(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                masked(u128::from(first.to_bits()) << 96, self.bits)
                    == masked(u128::from(address.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                masked(first.to_bits(), self.bits) == masked(address.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

/// The leading bits of a number.
fn masked(number: u128, bits: u8) -> u128 {
    number & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no range of addresses, such as 10.96.0.0/12 or fd00::/8");
        let (first, bits) = match text.trim().split_once('/') {
            Some((first, bits)) => (first, Some(bits.parse().map_err(|_| bad())?)),
            None => (text.trim(), None),
        };
        let first: IpAddr = first.parse().map_err(|_| bad())?;
        let all = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        if bits > all { Err(bad()) } else { Ok(Self { first, bits }) }
    }
}

/// All ranges that are not called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(Vec<Range>);

impl Default for Denied {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// An address that is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it leads to {address}, and nothing in {range} is called")]
pub struct Refused {
    address: IpAddr,
    range: Range,
}

impl Denied {
    /// The ranges that are never called, and more.
    pub fn new(more: &[Range]) -> Self {
        Self(ALWAYS.iter().chain(more).copied().collect())
    }

    /// Judges an address, also one of IPv4 that is written as one of IPv6.
    ///
    /// # Errors
    /// It and its range, where it is not to be called.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let ways = [Some(address), within(address)];
        let refused = self.0.iter().find(|range| ways.iter().flatten().any(|way| range.has(*way)));
        refused.map_or(Ok(()), |range| Err(Refused { address, range: *range }))
    }
}

/// The address of IPv4 that one of IPv6 stands for: mapped, or behind NAT64's prefix.
fn within(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let [high, low] = [address.segments()[6], address.segments()[7]];
    let behind = address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let behind = behind.then(|| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    address.to_ipv4_mapped().or(behind).map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(more: &[&str], address: &str) -> bool {
        let more: Vec<Range> = more.iter().map(|range| range.parse().unwrap()).collect();
        Denied::new(&more).check(address.parse().unwrap()).is_err()
    }

    #[test]
    fn where_clouds_hand_out_credentials_is_never_called_however_it_is_written() {
        for address in [
            "169.254.169.254",
            "169.254.0.0",
            "169.254.255.255",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "febf:ffff::",
            "fd00:ec2::254",
        ] {
            assert!(is_refused(&[], address), "{address}");
        }
        for address in
            ["169.253.255.255", "169.255.0.0", "127.0.0.1", "10.0.0.1", "::1", "fec0::", "fd00:ec2::253"]
        {
            assert!(!is_refused(&[], address), "{address}");
        }
    }

    #[test]
    fn further_ranges_are_of_any_length() {
        for (range, inside, outside) in [
            ("10.96.0.1", "10.96.0.1", "10.96.0.2"),
            ("10.96.0.0/12", "10.111.255.255", "10.112.0.0"),
            ("10.97.3.4/12", "10.96.0.0", "10.95.255.255"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("fd00::/8", "fdff::1", "fc00::1"),
            ("::/0", "1234::", "8.8.8.8"),
            ("2001:db8::7", "2001:db8::7", "2001:db8::8"),
        ] {
            assert!(is_refused(&[range], inside), "{range} {inside}");
            assert!(!is_refused(&[range], outside), "{range} {outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_an_example() {
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "kubernetes.default"]
        {
            let error = text.parse::<Range>().unwrap_err();
            assert!(error.contains("such as 10.96.0.0/12"), "{error}");
        }
    }
}
