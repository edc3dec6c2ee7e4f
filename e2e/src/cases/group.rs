//! Which cases share a pipeline: as few pipelines as names and wishes allow. Pure.

use std::collections::BTreeSet;

use super::file::Case;
use super::outcome::Outcome;

/// Tables that a status may have to name in one pipeline: it names no more than 20.
const MOST_NAMED: usize = 14;

/// Cases of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Name of the pipeline that its cases ask for; empty: they ask for none.
    pub pipeline: String,
    /// Its cases, by their number in the list.
    pub cases: Vec<usize>,
    made: BTreeSet<String>,
    named: usize,
}

/// Puts cases into groups: those of one wished pipeline together, others wherever no name is made twice.
pub fn groups(cases: &[Case]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let pipeline = case.pipeline.clone().unwrap_or_default();
        let made = made(case);
        let named = named(case);
        let fits = |group: &&mut Group| {
            group.pipeline == pipeline && group.made.is_disjoint(&made) && group.named + named <= MOST_NAMED
        };
        let group = if let Some(group) = groups.iter_mut().find(fits) {
            group
        } else {
            groups.push(Group { pipeline, ..Group::default() });
            groups.last_mut().expect("one was pushed")
        };
        group.cases.push(index);
        group.made.extend(made);
        group.named += named;
    }
    groups
}

/// Tables that are not expected to be equal.
fn named(case: &Case) -> usize {
    let other = |outcome: Option<Outcome>| outcome.is_some_and(|outcome| outcome != Outcome::Equal);
    let all = if other(case.expect.all) { case.names.len() } else { 0 };
    all + case.expect.tables.values().filter(|outcome| other(Some(**outcome))).count()
}

/// Names that the statements of a case make: tables, types, functions, schemas.
fn made(case: &Case) -> BTreeSet<String> {
    const KINDS: [&str; 8] =
        ["table", "type", "domain", "view", "sequence", "function", "schema", "collation"];
    let mut names = BTreeSet::new();
    for statement in &case.before {
        let mut words =
            statement.split(|c: char| c.is_whitespace() || c == '(').filter(|word| !word.is_empty());
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("create")) {
            continue;
        }
        let mut words =
            words.map(str::to_lowercase).skip_while(|word| !KINDS.contains(&word.as_str())).skip(1);
        let skipped = ["if", "not", "exists"];
        names.extend(words.find(|word| !skipped.contains(&word.as_str())));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::file::parse;
    use super::*;

    #[test]
    fn cases_that_make_the_same_name_are_apart_and_wishes_are_kept() {
        let text = "-- case a: x | y\nCREATE TABLE t(id int);\n\
                    -- case b: x | y\nCREATE UNLOGGED TABLE IF NOT EXISTS T (id int);\n\
                    -- case c: x | y\nCREATE TYPE u AS ENUM ('t');\n\
                    -- case d: x | y\n-- pipeline own\nCREATE TABLE v(id int);\n\
                    -- case e: x | y\n-- pipeline own\nCREATE TABLE w(id int);\n";
        let groups = groups(&parse(text).unwrap());
        let seen: Vec<(&str, Vec<usize>)> =
            groups.iter().map(|group| (group.pipeline.as_str(), group.cases.clone())).collect();
        assert_eq!(seen, [("", vec![0, 2]), ("", vec![1]), ("own", vec![3, 4])]);
    }

    #[test]
    fn a_status_has_room_for_every_table_that_it_must_name() {
        let case = |n| format!("-- case c{n}: x | y\n-- expect refused\nCREATE TABLE t{n}(id int);\n");
        let text = (0..20).map(case).collect::<Vec<_>>().concat();
        let groups = groups(&parse(&text).unwrap());
        assert_eq!(groups.iter().map(|group| group.cases.len()).collect::<Vec<_>>(), [14, 6]);
    }
}
