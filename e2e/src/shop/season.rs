//! What time does to a shop: when orders come, what is in fashion, where an order stands at an age. Pure.

use std::f64::consts::TAU;

use rand::Rng;

use super::model::Status;

const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = 24 * HOUR;
/// Orders of a day, Monday first, in per cent.
const WEEKDAYS: [u64; 7] = [95, 85, 90, 100, 110, 135, 125];
/// Orders of an hour of UTC.
const HOURS: [u64; 24] = [2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 10, 11, 10, 9, 9, 10, 12, 14, 15, 14, 11, 7, 4];
/// Orders at the begin of a history and at its end, in per cent of those in its middle.
const GROWTH: (u64, u64) = (60, 140);
/// One product in so many is never bought.
const UNLOVED: i64 = 13;

/// The moments of so many orders over the `days` before `end`, ascending, in microseconds since 1970.
///
/// They become more, follow the week and the hour, and no day is quite like another.
pub(super) fn moments(orders: u32, days: u16, end: i64, random: &mut impl Rng) -> Vec<i64> {
    let hours = u64::from(days) * 24;
    let begin = end - i64::from(days) * DAY;
    let mut noise = 100;
    let weights: Vec<u64> = (begin..end)
        .step_by(usize::try_from(HOUR).unwrap_or(usize::MAX))
        .zip(0..)
        .map(|(at, hour): (i64, u64)| {
            if hour % 24 == 0 {
                noise = random.random_range(75..=125);
            }
            // 1970 began on a Thursday.
            let weekday = usize::try_from((at.div_euclid(DAY) + 3).rem_euclid(7)).unwrap_or(0);
            let of_day = usize::try_from(at.rem_euclid(DAY) / HOUR).unwrap_or(0);
            let growth = GROWTH.0 * (hours - hour) + GROWTH.1 * hour;
            growth * WEEKDAYS[weekday] * HOURS[of_day] * noise
        })
        .collect();
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let (mut slot, mut before) = (0, 0_u128);
    (0..orders)
        .map(|number| {
            // The n-th part of all weight, and a place in it by chance.
            let chance = u128::from(random.random::<u16>());
            let goal = total * ((u128::from(number) << 16) + chance) / (u128::from(orders) << 16);
            while slot + 1 < weights.len() && before + u128::from(weights[slot]) <= goal {
                before += u128::from(weights[slot]);
                slot += 1;
            }
            let Some(weight) = weights.get(slot) else { return end };
            let within = (goal - before) * u128::from(HOUR.unsigned_abs()) / u128::from((*weight).max(1));
            begin + i64::try_from(slot).unwrap_or(0) * HOUR + i64::try_from(within).unwrap_or(0)
        })
        .collect()
}

/// How gladly a product is bought on a day since 1970, from 0 (never) to 1: some always more than others, and each
/// with its better and its worse months.
pub(super) fn appeal(product: i64, day: i32) -> f64 {
    if product.rem_euclid(UNLOVED) == UNLOVED - 1 {
        return 0.0;
    }
    let (love, period, phase) = (share(product, 1), share(product, 2), share(product, 3));
    let wave = (TAU * (f64::from(day) / (60.0 + 120.0 * period) + phase)).sin();
    (0.04 + 0.96 * love.powi(3)) * (1.0 + 0.7 * wave) / 1.7
}

/// How often a customer comes back, from 0 to 1: few are loyal, most come once.
pub(super) fn loyalty(customer: i64) -> f64 {
    match share(customer, 4) {
        rank if rank < 0.05 => 1.0,
        rank if rank < 0.3 => 0.25,
        _ => 0.04,
    }
}

/// Where an order stands so long after it was placed, and since when, both in microseconds.
pub(super) fn standing(age: i64, random: &mut impl Rng) -> (Status, i64) {
    let fate = random.random_range(0..100);
    // Most pay at once; a transfer takes days.
    let paid = if random.random_ratio(1, 5) { random.random_range(HOUR..3 * DAY) } else { HOUR / 10 };
    let shipped = paid + random.random_range(4 * HOUR..2 * DAY);
    let delivered = shipped + random.random_range(DAY..4 * DAY);
    let mut way = vec![(Status::Pending, 0)];
    if fate < 4 {
        way.push((Status::Cancelled, random.random_range(HOUR / 10..8 * HOUR)));
    } else {
        way.extend([(Status::Paid, paid), (Status::Shipped, shipped), (Status::Delivered, delivered)]);
        if fate < 7 {
            way.push((Status::Refunded, delivered + random.random_range(2 * DAY..12 * DAY)));
        }
    }
    way.into_iter().rev().find(|(_, since)| *since <= age).unwrap_or((Status::Pending, 0))
}

/// A number from 0 to 1 that a key always has.
fn share(key: i64, of: u64) -> f64 {
    // SplitMix64.
    let mut mixed = key.unsigned_abs().wrapping_add(of.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// A Monday.
    const END: i64 = 1_763_942_400_000_000;

    fn of(orders: u32, days: u16) -> Vec<i64> {
        moments(orders, days, END, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn every_order_has_its_moment_in_order_and_in_the_time() {
        for (orders, days) in [(0, 60), (1, 60), (7, 1), (3000, 200), (5, 0)] {
            let all = of(orders, days);
            assert_eq!(all.len(), usize::try_from(orders).unwrap());
            assert!(all.is_sorted(), "{orders} over {days} days");
            assert!(all.iter().all(|at| (END - i64::from(days) * DAY..=END).contains(at)));
        }
        assert_ne!(of(100, 60), moments(100, 60, END, &mut StdRng::seed_from_u64(2)));
    }

    #[test]
    fn the_shop_grows_and_has_weekends_and_evenings() {
        let all = of(40_000, 280);
        let count = |is: &dyn Fn(i64) -> bool| all.iter().filter(|at| is(**at)).count();
        let middle = END - 140 * DAY;
        assert!(count(&|at| at >= middle) * 10 > count(&|at| at < middle) * 13);
        let weekday = |at: i64| (at.div_euclid(DAY) + 3).rem_euclid(7);
        assert!(count(&|at| weekday(at) == 5) * 10 > count(&|at| weekday(at) == 1) * 14);
        let hour = |at: i64| at.rem_euclid(DAY) / HOUR;
        assert!(count(&|at| hour(at) == 19) > count(&|at| hour(at) == 3) * 8);
        let mut days: BTreeMap<i64, usize> = BTreeMap::new();
        for at in &all {
            *days.entry(at.div_euclid(7 * DAY)).or_default() += 1;
        }
        assert!(days.len() > 39);
    }

    #[test]
    fn products_have_their_time_and_some_are_never_bought() {
        let best = |day| (1..=40).max_by(|a, b| appeal(*a, day).total_cmp(&appeal(*b, day))).unwrap();
        let bests: std::collections::BTreeSet<i64> = (20_000..20_400).step_by(20).map(best).collect();
        assert!(bests.len() > 1, "{bests:?} is always the best");
        assert_eq!((1..=40).filter(|product| appeal(*product, 20_000) == 0.0).count(), 3);
        assert!((1..=1000).all(|product| (0.0..=1.0).contains(&appeal(product, 20_123))));
    }

    #[test]
    fn few_customers_are_loyal() {
        let loyal = (1..=10_000).filter(|customer| loyalty(*customer) > 0.9).count();
        let once = (1..=10_000).filter(|customer| loyalty(*customer) < 0.1).count();
        assert!((400..600).contains(&loyal) && once > 6500, "{loyal} loyal, {once} once");
    }

    #[test]
    fn old_orders_are_done_and_a_few_went_wrong() {
        let mut random = StdRng::seed_from_u64(3);
        let mut of_age = |age: i64| {
            let mut all: BTreeMap<Status, u32> = BTreeMap::new();
            for _ in 0..10_000 {
                let (status, since) = standing(age, &mut random);
                assert!((0..=age).contains(&since));
                *all.entry(status).or_default() += 1;
            }
            all
        };
        assert_eq!(of_age(0).into_keys().collect::<Vec<_>>(), [Status::Pending]);
        let old = of_age(100 * DAY);
        assert_eq!(
            old.keys().copied().collect::<Vec<_>>(),
            [Status::Delivered, Status::Cancelled, Status::Refunded]
        );
        assert!(
            (300..500).contains(&old[&Status::Cancelled]) && (200..400).contains(&old[&Status::Refunded])
        );
        assert!(of_age(2 * DAY).len() >= 4);
    }
}
