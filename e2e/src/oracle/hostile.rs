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

/// [`SETTINGS`] in a few sets of many, for where the same views were tried under each alone before.
///
/// No set has a name twice, and what is a hundred settings, or another planner, stays alone.
pub fn together() -> Vec<String> {
    const MANY: usize = 8;
    let is_alone = |set: &&str| set.starts_with("compatibility=") || *set == "enable_analyzer=0";
    let (alone, each): (Vec<&str>, Vec<&str>) = SETTINGS.iter().copied().partition(is_alone);
    let mut sets: Vec<Vec<&str>> = Vec::new();
    for set in each {
        let own = pairs(set);
        let fits = |others: &Vec<&str>| {
            let taken =
                |name: &str| others.iter().any(|set| pairs(set).iter().any(|(other, _)| *other == name));
            others.len() < MANY && !own.iter().any(|(name, _)| taken(name))
        };
        match sets.iter_mut().find(|others| fits(others)) {
            Some(others) => others.push(set),
            None => sets.push(vec![set]),
        }
    }
    sets.iter().map(|set| set.join(" ")).chain(alone.into_iter().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_is_every_setting_once() {
        let sets = together();
        assert!(sets.len() < 12, "{sets:?}");
        let mut all: Vec<&str> = sets.iter().flat_map(|set| set.split(' ')).collect();
        let mut each: Vec<&str> = SETTINGS.iter().flat_map(|set| set.split(' ')).collect();
        all.sort_unstable();
        each.sort_unstable();
        assert_eq!(all, each);
        for set in &sets {
            let names: std::collections::BTreeSet<&str> = pairs(set).iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), pairs(set).len(), "{set}");
        }
    }

    #[test]
    fn a_set_is_read_as_names_and_values() {
        assert_eq!(pairs("final=1 compatibility=22.3"), [("final", "1"), ("compatibility", "22.3")]);
        assert_eq!(pairs("join_default_strictness="), [("join_default_strictness", "")]);
        assert!(SETTINGS.iter().chain(LIMITS).all(|set| !pairs(set).is_empty()));
    }
}
