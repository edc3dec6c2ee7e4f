//! The condition `Verified`, and how far tables are compared.

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_operator::core::facts::VerificationFacts;
use tidemark_operator::core::problem::Problem;

use super::{Case, NOW, condition, judged, known, streaming};
use crate::fixture::fixture;

/// What a sink says of a comparison; `Verified`.
const VERIFIED: &[(&str, VerificationFacts, &str)] = &[
    ("a full round an hour ago", compared(NOW - 3_600_000, 0), "True AsDesired"),
    ("rows that could not be repaired", compared(NOW - 3_600_000, 2), "False Differs"),
    ("a full round eight days ago", compared(NOW - 8 * 86_400_000, 0), "False Unverified"),
    ("the first round is under way", compared(0, 0), "Unknown InProgress"),
    ("the first round began eight days ago", began(NOW - 8 * 86_400_000), "False Unverified"),
];

const fn compared(from_ms: i64, open: u64) -> VerificationFacts {
    facts_of(from_ms, from_ms, open)
}

const fn began(ms: i64) -> VerificationFacts {
    facts_of(ms, 0, 0)
}

const fn facts_of(began_ms: i64, from_ms: i64, open: u64) -> VerificationFacts {
    VerificationFacts {
        request: 0,
        began_ms,
        from_ms,
        compared: 90,
        per_mille: 370,
        differences: 5,
        repaired: 5 - open,
        open,
        error: String::new(),
    }
}

#[test]
fn verified_says_what_the_comparisons_found_and_is_no_part_of_ready() {
    let fixture = fixture();
    let of = |facts: Option<&VerificationFacts>, problems: &[Problem]| {
        let mut case = Case { problems: problems.to_vec(), ..streaming(&fixture) };
        let found = facts.map(|facts| ("orders".to_owned(), facts.clone()));
        known(&mut case.observed.clickhouse).verification.extend(found);
        judged(&fixture, &case)
    };
    for (what, facts, expected) in VERIFIED {
        let status = of(Some(facts), &[]);
        let (is, reason, message) = condition(&status, ConditionType::Verified);
        assert_eq!(format!("{is} {reason}"), *expected, "{what}");
        assert_eq!(message.is_empty(), reason == "AsDesired", "{what}: {message}");
        assert!(message.is_empty() || message.contains("public.orders"), "{what}: {message}");
        assert_eq!(condition(&status, ConditionType::Ready).0, "True", "{what}");
        let verified = &status.tables.unwrap().verified[0];
        assert_eq!(
            (verified.coverage.as_str(), verified.oldest.is_some(), verified.differences, verified.repaired),
            ("0.3", facts.from_ms > 0, 5, i64::try_from(facts.repaired).unwrap()),
            "{what}"
        );
    }
    let status = of(None, &[]);
    assert_eq!(condition(&status, ConditionType::Verified).0, "Unknown");
    assert_eq!(status.tables.unwrap().verified, []);
    let refused = [Problem::of(
        ConditionType::TablesInSync,
        "public.orders",
        Reason::NoPrimaryKey,
        "public.orders has no key",
    )];
    let (is, reason, message) = condition(&of(None, &refused), ConditionType::Verified);
    assert_eq!((is.as_str(), reason.as_str()), ("True", "LeftOut"));
    assert!(message.contains("public.orders"), "{message}");
}
