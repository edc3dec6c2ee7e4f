//! What a shop does next, as a function of its state and of random numbers. Pure.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::season::{appeal, loyalty};

/// Most lines that a cart holds.
const MAX_LINES: usize = 8;
/// Most open orders that are remembered: older ones stay as they are.
const MAX_OPEN: usize = 5000;

const GIVEN_NAMES: &[&str] =
    &["Ada", "Björn", "Chloé", "Dmitri", "Esi", "Fatma", "Goro", "Hana", "Inés", "Jan"];
const FAMILY_NAMES: &[&str] = &["Okafor", "Müller", "Nguyen", "Silva", "Larsen", "Rossi", "Kim", "O'Neill"];
/// Where customers live, and how many of a hundred.
const PLACES: &[(&str, &str, u32)] = &[
    ("DE", "Berlin", 34),
    ("FR", "Lyon", 22),
    ("SE", "Malmö", 14),
    ("JP", "Osaka", 12),
    ("BR", "Recife", 10),
    ("NG", "Lagos", 8),
];
/// Most products or customers that are looked at before the last one is taken.
const MAX_LOOKS: usize = 64;
const STREETS: &[&str] = &["Harbour Street", "Mill Lane", "Station Road", "Rue du Port", "Am Markt"];
const NOTES: &[&str] =
    &["please ring twice", "a gift: no invoice", "leave with the neighbour", "größer, bitte"];

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// Placed, not paid.
    Pending,
    /// Paid.
    Paid,
    /// On its way.
    Shipped,
    /// With the customer.
    Delivered,
    /// Given up before it was shipped.
    Cancelled,
    /// Sent back.
    Refunded,
}

impl Status {
    /// Returns the status as the database writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }

    /// Reads what [`Status::as_str`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled, Self::Refunded]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Draws the status that follows; `None` if nothing does.
    fn next(self, random: &mut impl Rng) -> Option<Self> {
        let percent = random.random_range(0..100);
        match self {
            Self::Pending => Some(if percent < 3 { Self::Cancelled } else { Self::Paid }),
            Self::Paid => Some(if percent < 1 { Self::Cancelled } else { Self::Shipped }),
            Self::Shipped => Some(Self::Delivered),
            Self::Delivered => (percent < 5).then_some(Self::Refunded),
            Self::Cancelled | Self::Refunded => None,
        }
    }
}

/// A product, with its price in cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// Primary key.
    pub(super) id: i64,
    /// Price now.
    pub(super) price: i64,
}

/// A line of a cart, with the price in cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The product's primary key.
    pub(super) product: i64,
    /// Units.
    pub(super) quantity: i32,
    /// Price of one unit when it was ordered.
    pub(super) unit_price: i64,
}

/// One transaction of the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A customer joins.
    Register { email: String, name: String, country: &'static str, city: &'static str, address: String },
    /// A customer orders a cart.
    PlaceOrder { customer: i64, lines: Vec<Line>, note: Option<&'static str> },
    /// An order goes on to another status.
    Advance { order: i64, to: Status },
    /// A line of an unpaid order gets another quantity; 0 removes it.
    Amend { order: i64, line: i16, quantity: i32 },
    /// A customer moves.
    Move { customer: i64, country: &'static str, city: &'static str, address: String },
    /// A customer takes another name.
    Rename { customer: i64, name: String },
    /// A product gets another price, in cents.
    Reprice { product: i64, price: i64 },
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done; the primary key of the row it is about.
    Done(i64),
    /// The row it is about is not there any more.
    Gone,
}

/// What the generator remembers of the shop.
#[derive(Clone, Debug, Default)]
pub(super) struct Shop {
    /// Customers by primary key.
    pub(super) customers: Vec<i64>,
    /// Products.
    pub(super) products: Vec<Product>,
    /// Orders that may still change, oldest first.
    pub(super) open: Vec<(i64, Status)>,
    /// Number of the next customer's e-mail address.
    pub(super) next_email: i64,
}

impl Shop {
    /// Draws a cart of one of the customers, on a day since 1970; `None` in a shop without customers or products.
    pub(super) fn order(&self, random: &mut impl Rng, day: i32) -> Option<Action> {
        self.order_of(self.customer(random)?, random, day)
    }

    /// Draws a cart of a customer.
    pub(super) fn order_of(&self, customer: i64, random: &mut impl Rng, day: i32) -> Option<Action> {
        // Small carts are more frequent, and so is one piece of a thing.
        let few = random.random_ratio(1, 2);
        let lines = random.random_range(1..=MAX_LINES).min(random.random_range(1..=MAX_LINES));
        let lines = (0..if few { 1 } else { lines })
            .map(|_| {
                let product = self.product(random, day)?;
                let quantity = random
                    .random_range(1..=4)
                    .min(random.random_range(1..=4))
                    .min(random.random_range(1..=4));
                Some(Line { product: product.id, quantity, unit_price: product.price })
            })
            .collect::<Option<Vec<_>>>()?;
        let note = if random.random_ratio(1, 6) { NOTES.choose(random).copied() } else { None };
        Some(Action::PlaceOrder { customer, lines, note })
    }

    /// Draws who orders: those who joined not long ago more often, and the loyal ones again and again.
    fn customer(&self, random: &mut impl Rng) -> Option<i64> {
        let mut chosen = None;
        for _ in 0..MAX_LOOKS {
            let newest = self.customers.len().checked_sub(1)?;
            let back = random.random_range(0..=newest).min(random.random_range(0..=newest));
            let customer = self.customers[newest - back];
            chosen = Some(customer);
            if random.random_bool(loyalty(customer)) {
                break;
            }
        }
        chosen
    }

    fn product(&self, random: &mut impl Rng, day: i32) -> Option<&Product> {
        for _ in 0..MAX_LOOKS {
            let product = self.products.choose(random)?;
            if random.random_bool(appeal(product.id, day).clamp(0.0, 1.0)) {
                return Some(product);
            }
        }
        self.products.iter().find(|product| appeal(product.id, day) > 0.0).or(self.products.first())
    }

    /// Draws something else that happens between two orders; `None` if what was drawn cannot.
    pub(super) fn event(&mut self, random: &mut impl Rng) -> Option<Action> {
        match random.random_range(0..100) {
            0..74 => {
                let (order, status) = *self.open.choose(random)?;
                let next = status.next(random).map(|to| Action::Advance { order, to });
                if next.is_none() {
                    // It is kept, and that is the end of it.
                    self.close(order);
                }
                next
            }
            74..82 => {
                let (order, status) = *self.open.choose(random)?;
                let line = random.random_range(1..=3);
                let quantity = random.random_range(0..=4);
                (status == Status::Pending).then_some(Action::Amend { order, line, quantity })
            }
            82..86 => Some(self.register(random)),
            86..90 => {
                let (country, city, address) = place(random);
                Some(Action::Move { customer: *self.customers.choose(random)?, country, city, address })
            }
            90..93 => Some(Action::Rename { customer: *self.customers.choose(random)?, name: name(random) }),
            _ => {
                let product = self.products.choose(random)?;
                let price = (product.price * random.random_range(92..=109) / 100).max(99);
                Some(Action::Reprice { product: product.id, price })
            }
        }
    }

    /// Draws a customer who joins.
    pub(super) fn register(&self, random: &mut impl Rng) -> Action {
        let (country, city, address) = place(random);
        let email = format!("customer{}@shop.example", self.next_email);
        Action::Register { email, name: name(random), country, city, address }
    }

    /// Forgets an order that will not change any more.
    pub(super) fn close(&mut self, order: i64) {
        self.open.retain(|(id, _)| *id != order);
    }

    /// Remembers what an action changed.
    pub(super) fn apply(&mut self, action: &Action, outcome: Outcome) {
        match (action, outcome) {
            (Action::Register { .. }, Outcome::Done(id)) => {
                self.customers.push(id);
                self.next_email += 1;
            }
            // The address was taken meanwhile.
            (Action::Register { .. }, Outcome::Gone) => self.next_email += 1,
            (Action::PlaceOrder { .. }, Outcome::Done(id)) => {
                self.open.push((id, Status::Pending));
                if self.open.len() > MAX_OPEN {
                    self.open.remove(0);
                }
            }
            (Action::Advance { order, to }, Outcome::Done(_)) => match to {
                Status::Cancelled | Status::Refunded => self.close(*order),
                _ => self.open.iter_mut().filter(|(id, _)| id == order).for_each(|open| open.1 = *to),
            },
            (Action::Reprice { product, price }, Outcome::Done(_)) => {
                self.products
                    .iter_mut()
                    .filter(|known| known.id == *product)
                    .for_each(|known| known.price = *price);
            }
            (Action::Advance { order, .. } | Action::Amend { order, .. }, Outcome::Gone) => {
                self.close(*order);
            }
            (
                Action::PlaceOrder { customer, .. }
                | Action::Move { customer, .. }
                | Action::Rename { customer, .. },
                Outcome::Gone,
            ) => self.customers.retain(|id| id != customer),
            (Action::Reprice { product, .. }, Outcome::Gone) => {
                self.products.retain(|known| known.id != *product);
            }
            (Action::Amend { .. } | Action::Move { .. } | Action::Rename { .. }, Outcome::Done(_)) => {}
        }
    }
}

fn name(random: &mut impl Rng) -> String {
    let pick = |names: &[&'static str], random: &mut _| names.choose(random).copied().unwrap_or_default();
    format!("{} {}", pick(GIVEN_NAMES, random), pick(FAMILY_NAMES, random))
}

fn place(random: &mut impl Rng) -> (&'static str, &'static str, String) {
    let mut left = random.random_range(0..PLACES.iter().map(|place| place.2).sum());
    let here = |place: &&(&str, &str, u32)| {
        let here = left < place.2;
        left = left.saturating_sub(place.2);
        here
    };
    let (country, city, _) = PLACES.iter().find(here).copied().unwrap_or_default();
    let street = STREETS.choose(random).copied().unwrap_or_default();
    (country, city, format!("{} {street}", random.random_range(1..200)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::Status::{Cancelled, Delivered, Paid, Pending, Refunded, Shipped};
    use super::*;

    fn shop() -> Shop {
        Shop {
            customers: vec![1, 2, 3],
            products: (1..=10).map(|id| Product { id, price: id * 100 }).collect(),
            open: Vec::new(),
            next_email: 4,
        }
    }

    fn live(seed: u64, steps: i64) -> Vec<Action> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut shop = shop();
        let mut actions = Vec::new();
        for step in 0..steps {
            let action =
                if step % 2 == 0 { shop.order(&mut random, 20_000) } else { shop.event(&mut random) };
            let Some(action) = action else { continue };
            shop.apply(&action, Outcome::Done(100 + step));
            actions.push(action);
        }
        actions
    }

    #[test]
    fn a_seed_always_gives_the_same_life() {
        assert_eq!(live(7, 400), live(7, 400));
        assert_ne!(live(7, 400), live(8, 400));
    }

    #[test]
    fn carts_have_one_to_eight_lines_at_the_products_price() {
        let mut sizes = BTreeSet::new();
        for action in live(1, 2000) {
            if let Action::PlaceOrder { lines, .. } = action {
                sizes.insert(lines.len());
                assert!(lines.iter().all(|line| line.unit_price >= 99 && (1..=4).contains(&line.quantity)));
            }
        }
        assert_eq!(sizes, (1..=MAX_LINES).collect());
    }

    #[test]
    fn an_order_goes_on_only_from_where_it_stands() {
        let mut standing = std::collections::BTreeMap::new();
        let mut seen = BTreeSet::new();
        for action in live(3, 8000) {
            if let Action::Advance { order, to } = action {
                let from = standing.insert(order, to).unwrap_or(Status::Pending);
                seen.insert((from, to));
            }
        }
        let allowed = [
            (Pending, Paid),
            (Pending, Cancelled),
            (Paid, Shipped),
            (Paid, Cancelled),
            (Shipped, Delivered),
            (Delivered, Refunded),
        ];
        assert_eq!(seen, BTreeSet::from(allowed));
    }

    #[test]
    fn what_is_gone_is_not_drawn_again() {
        let mut shop = shop();
        let order = Action::PlaceOrder { customer: 2, lines: Vec::new(), note: None };
        shop.apply(&order, Outcome::Gone);
        assert_eq!(shop.customers, [1, 3]);
        shop.apply(&Action::Reprice { product: 10, price: 1 }, Outcome::Gone);
        assert_eq!(shop.products.len(), 9);
    }

    #[test]
    fn an_empty_shop_draws_no_order() {
        assert_eq!(Shop::default().order(&mut StdRng::seed_from_u64(1), 0), None);
    }
}
