//! I7: what is done is what was foreseen from the state before.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use tidemark_operator::core::assume::coming::Coming;
use tidemark_operator::core::foresee::{End, Foreseen};
use tidemark_operator::core::step::{Lane, Stage, StepId};

use super::estate::{Estate, TOPIC_MADE_ANEW};
use super::world::Act;

/// Positions of the log, which nobody knows before.
static POSITIONS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"up to [0-9A-F]+$").unwrap());
/// Numbers of epochs.
static EPOCHS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"epoch( to)? \d+").unwrap());
/// Hashes of columns in the names of views' tables: those of a view that is not there yet are not known.
static SHAPES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"__[0-9a-f]{8}\b").unwrap());

/// What of a connector's configuration changes: where a change is refused, the next one has both.
static CHANGES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(change connector \S+): .*$").unwrap());
/// Why a connector is stopped: one that is stopping shows it late, and another reason may be there by then.
static STOPS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^stop (the tasks of )?(connector \S+) (to change|for epoch) .*$").unwrap());

/// Which step it is, without what only the deed can tell.
fn line(id: &StepId) -> String {
    let what = SHAPES.replace_all(&POSITIONS.replace(&id.what, "up to *"), "__*").into_owned();
    let what = STOPS.replace(&what, "stop $2");
    format!("{:?} {:?} {:?} {what}", id.lane, id.stage, id.kind)
}

/// The steps of a lane in the order in which each came first. What is noted of the connector, and how late it is, hangs on
/// when it is looked at; that a topic was made anew only a sink finds out; and whether a layout has to be confirmed hangs on
/// up to where the process remembers the one before.
fn lane<'a>(ids: impl Iterator<Item = &'a StepId>, of: Lane) -> Vec<String> {
    let mut all = Vec::new();
    let counts = |id: &&StepId| {
        id.lane == of
            && id.stage != Stage::History
            && !id.what.ends_with(TOPIC_MADE_ANEW)
            && !id.what.starts_with("confirm layout ")
    };
    for line in ids.filter(counts).map(line) {
        if !all.contains(&line) {
            all.push(line);
        }
    }
    if matches!(of, Lane::ClickHouse | Lane::Connect) {
        // Tables, views, reads and epochs are chains of their own there: which is further at a look is a matter of time.
        all.sort();
    }
    all
}

const LANES: [Lane; 7] = [
    Lane::ClickHouse,
    Lane::Postgres,
    Lane::Kafka,
    Lane::Connect,
    Lane::Kubernetes,
    Lane::Grafana,
    Lane::FormerGrafana,
];

/// What is broken of an undisturbed run, `estate` being that at its end.
pub(super) fn of_run(foreseen: &Foreseen, acts: &[Act], estate: &Estate) -> Vec<String> {
    let mut broken = Vec::new();
    if foreseen.end != End::Rest {
        let last: Vec<String> = foreseen.ids().iter().rev().take(4).map(line).collect();
        broken.push(format!("I7: it is not foreseen to rest: {last:?}"));
    }
    if rests_on_what_is_not(foreseen, estate) {
        return broken;
    }
    // Nobody knows before that a system refuses a write: what would have followed does not.
    let is_refused = acts.iter().any(|act| act.failed);
    let ids = foreseen.ids();
    for of in LANES {
        let (plan, deed) = (lane(ids.iter(), of), lane(acts.iter().map(|act| &act.id), of));
        let lacks: Vec<&String> = deed.iter().filter(|line| !plan.contains(line)).collect();
        let more: Vec<&String> = plan.iter().filter(|line| !deed.contains(line)).collect();
        if !lacks.is_empty() || (plan != deed && !is_refused) {
            let left = foreseen.left.iter().map(|(step, why)| format!("{}: {why}", step.what));
            let left: Vec<String> = left.collect();
            broken.push(format!(
                "I7: {of:?}: done and not foreseen {lacks:#?}, foreseen and not done {more:#?}, left {left:?}"
            ));
        }
    }
    broken
}

/// Whether something was assumed, by name, that was not so: connect has not kept the connector's offsets.
fn rests_on_what_is_not(foreseen: &Foreseen, estate: &Estate) -> bool {
    let kept = estate.connect.values().any(|workers| !workers.offsets.is_empty());
    foreseen.comings().any(|coming| *coming == Coming::OffsetsKept) && !kept
}

/// Everything that a foreseen plan takes away. Which number an epoch has hangs on what was seen of those before.
pub(super) fn taken_away(foreseen: &Foreseen) -> BTreeSet<String> {
    foreseen.steps().filter(|step| step.effect.takes_away()).map(|step| of_any_epoch(&step.id())).collect()
}

fn of_any_epoch(id: &StepId) -> String {
    let line = line(id);
    EPOCHS.replace_all(&CHANGES.replace(&line, "$1"), "epoch$1 *").into_owned()
}

/// What was taken away, and no plan from the state before said so.
pub(super) fn of_fork<'a>(foreseen: &BTreeSet<String>, acts: &'a [Act]) -> Vec<String> {
    let taken: Vec<&'a Act> = acts.iter().filter(|act| act.takes_away).collect();
    let lines = taken.into_iter().map(|act| of_any_epoch(&act.id)).filter(|line| !foreseen.contains(line));
    lines.map(|line| format!("I7: taken away and not foreseen: {line}")).collect()
}
