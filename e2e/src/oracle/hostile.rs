//! Session settings that change what a query means, one set a line: views must not care. Pure.
//!
//! Left out is what acts on the caller's own result (`limit`, `offset`, `extremes`)
//! or stops the query with an error.

/// Sets of `name=value`, each to be tried on its own.
pub const SETTINGS: &[&str] = &[
    "aggregate_functions_null_for_empty=1",
    "aggregate_functions_null_for_empty=1 join_use_nulls=1 group_by_use_nulls=1 transform_null_in=1",
    "any_join_distinct_right_table_keys=1",
    "apply_deleted_mask=0",
    "cast_keep_nullable=1",
    "compatibility=22.3",
    "count_distinct_implementation=uniq",
    "date_time_output_format=unix_timestamp",
    "date_time_overflow_behavior=throw",
    "decimal_check_overflow=0",
    "do_not_merge_across_partitions_select_final=1",
    "empty_result_for_aggregation_by_constant_keys_on_empty_set=0",
    "empty_result_for_aggregation_by_empty_set=1",
    "enable_analyzer=0",
    "enable_extended_results_for_datetime_functions=1",
    "enable_global_with_statement=0",
    "enable_optimize_predicate_expression=0",
    "enable_positional_arguments=0",
    "final=0",
    "final=1",
    "group_by_use_nulls=1",
    "join_algorithm=direct",
    "join_algorithm=full_sorting_merge",
    "join_algorithm=grace_hash",
    "join_algorithm=partial_merge",
    "join_any_take_last_row=1",
    "join_default_strictness=",
    "join_default_strictness=ANY",
    "join_use_nulls=1",
    "joined_subquery_requires_alias=0",
    "least_greatest_legacy_null_behavior=1",
    "max_block_size=1",
    "optimize_move_to_prewhere_if_final=1",
    "output_format_decimal_trailing_zeros=0",
    "prefer_column_name_to_alias=1",
    "query_plan_enable_optimizations=0",
    "session_timezone=Pacific/Kiritimati",
    "short_circuit_function_evaluation=disable",
    "single_join_prefer_left_table=0",
    "transform_null_in=1",
    "union_default_mode=DISTINCT",
    "use_skip_indexes_if_final=0",
    "use_skip_indexes_if_final=1 use_skip_indexes_if_final_exact_mode=0",
    "use_variant_as_common_type=0",
];

/// Limits that end a query early and silently: a view may fail under them, but not answer wrongly.
pub const LIMITS: &[&str] = &[
    "max_rows_in_join=10 join_overflow_mode=break",
    "max_rows_in_set=10 set_overflow_mode=break",
    "max_rows_to_group_by=10 group_by_overflow_mode=any",
    "max_rows_to_read=100 read_overflow_mode=break max_block_size=10 max_threads=1",
    "max_rows_to_read_leaf=100 read_overflow_mode_leaf=break max_block_size=10 max_threads=1",
    "max_rows_to_sort=5 sort_overflow_mode=break",
];

/// Returns the names and values of one set.
pub fn pairs(set: &str) -> Vec<(&str, &str)> {
    set.split(' ').filter_map(|pair| pair.split_once('=')).collect()
}

/// [`SETTINGS`] in a few sets of many, each in one of them.
pub fn together() -> Vec<String> {
    cover(&[]).iter().map(|set| set.join(" ")).collect()
}

/// [`SETTINGS`] in a few sets of many, each in two of them and never twice with the same others: what one hides in one
/// set it does not hide in the next.
pub fn crossed() -> Vec<String> {
    let first = cover(&[]);
    let second = cover(&first).into_iter().filter(|set| !is_whole(set[0]));
    first.iter().cloned().chain(second).map(|set| set.join(" ")).collect()
}

/// Whether a set is a hundred settings, or another planner: it stays alone.
fn is_whole(set: &str) -> bool {
    set.starts_with("compatibility=") || set == "enable_analyzer=0"
}

/// Puts each of [`SETTINGS`] into a set of many without a name twice, nor two that are in one set of `others`.
fn cover(others: &[Vec<&str>]) -> Vec<Vec<&'static str>> {
    const MANY: usize = 8;
    let shares_name =
        |a: &str, b: &str| pairs(a).iter().any(|(name, _)| pairs(b).iter().any(|(other, _)| other == name));
    let met = |a: &str, b: &str| others.iter().any(|set| set.contains(&a) && set.contains(&b));
    let mut sets: Vec<Vec<&str>> = Vec::new();
    for &set in SETTINGS {
        let fits = |others: &Vec<&str>| {
            let alone = is_whole(set) || is_whole(others[0]);
            !alone
                && others.len() < MANY
                && !others.iter().any(|other| shares_name(set, other) || met(set, other))
        };
        match sets.iter_mut().find(|others| fits(others)) {
            Some(others) => others.push(set),
            None => sets.push(vec![set]),
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn counted(sets: &[String]) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for pair in sets.iter().flat_map(|set| set.split(' ')) {
            *counts.entry(pair).or_default() += 1;
        }
        counts
    }

    #[test]
    fn together_is_every_setting_once() {
        let sets = together();
        assert!(sets.len() < 12, "{sets:?}");
        let each: Vec<String> = SETTINGS.iter().map(|set| (*set).to_owned()).collect();
        assert_eq!(counted(&sets), counted(&each));
        for set in &sets {
            let names: BTreeSet<&str> = pairs(set).iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), pairs(set).len(), "{set}");
        }
    }

    #[test]
    fn crossed_is_every_setting_twice_and_no_two_meet_again() {
        assert!(crossed().len() < 24, "{:?}", crossed());
        let first = cover(&[]);
        let second = cover(&first);
        for sets in [&first, &second] {
            let mut all = sets.concat();
            all.sort_unstable();
            assert_eq!(all, SETTINGS);
        }
        for (a, b) in first.iter().flat_map(|a| second.iter().map(move |b| (a, b))) {
            let both: Vec<&&str> = a.iter().filter(|set| b.contains(set)).collect();
            assert!(both.len() <= 1, "{both:?}");
        }
        let whole = SETTINGS.iter().filter(|set| is_whole(set)).count();
        assert_eq!(crossed().len(), first.len() + second.len() - whole, "those are tried once");
    }

    #[test]
    fn a_set_is_read_as_names_and_values() {
        assert_eq!(pairs("final=1 compatibility=22.3"), [("final", "1"), ("compatibility", "22.3")]);
        assert_eq!(pairs("join_default_strictness="), [("join_default_strictness", "")]);
        assert!(SETTINGS.iter().chain(LIMITS).all(|set| !pairs(set).is_empty()));
    }
}
