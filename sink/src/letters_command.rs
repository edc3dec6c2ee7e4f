//! `tidemark-sink dead-letters`: look at the records that could not be applied, apply them again, or leave them. I/O.

use std::io::Write;

use clap::{Args, Subcommand};
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::kafka::Connection;

use crate::batch::Place;
use crate::dead_letter::{DeadLetter, DeadLetterTopic};
use crate::group::{Records, consumer_config};
use crate::letters::{Letter, read_topic};

/// Name of the clients that this command makes.
const CLIENT: &str = "tidemark-sink-dead-letters";
/// Bytes of a value that `show` prints.
const SHOWN: usize = 64 << 10;

/// What to do with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum LettersCommand {
    /// Lists the open letters: table, partition, offset, when, why.
    List(Which),
    /// Prints letters whole: headers, key, value.
    Show(Which),
    /// Applies letters again, once their cause is mended: each record is written to its topic once more, as it was.
    ///
    /// The sinks read it there like any other. Its place in the stream is in the record, so an older state never
    /// replaces a newer one. A record that still cannot be applied becomes a dead letter again, under its new offset.
    /// The user of the configuration needs the right to write to the topics of the tables.
    Replay(Which),
    /// Leaves letters: they are not applied and count no more. What they would have changed stays as it is until the
    /// row changes again or the table is read again.
    Skip(Which),
}

/// Which letters; all that are open without any of these.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// State table, as in the configuration.
    #[arg(long)]
    pub table: Option<String>,
    /// Partition of the table's topic.
    #[arg(long)]
    pub partition: Option<i32>,
    /// Offset there.
    #[arg(long)]
    pub offset: Option<i64>,
}

impl Which {
    fn includes(&self, config: &SinkConfig, letter: &DeadLetter) -> bool {
        let table = table_of(config, letter);
        self.table.as_ref().is_none_or(|wanted| *wanted == table)
            && self.partition.is_none_or(|partition| partition == letter.partition)
            && self.offset.is_none_or(|offset| offset == letter.offset)
    }
}

/// State table of a letter; the topic where it is of none that is configured.
fn table_of<'a>(config: &'a SinkConfig, letter: &'a DeadLetter) -> &'a str {
    let route = config.tables.iter().find(|table| table.topic == letter.topic);
    route.map_or(&letter.topic, |route| &route.target)
}

/// Runs the command; what is found goes to `out`.
pub async fn run(
    config: &SinkConfig,
    command: &LettersCommand,
    out: &mut (impl Write + Send),
) -> anyhow::Result<()> {
    let connection = Connection::read(&config.kafka)?;
    let mut properties = consumer_config(&connection, config, CLIENT);
    // Outside of the sinks' group.
    properties.set("group.id", CLIENT);
    let topic = config.dead_letter.topic.clone();
    let reader = properties.clone();
    let letters = tokio::task::spawn_blocking(move || read_topic(&reader, &topic)).await??;
    let (LettersCommand::List(which)
    | LettersCommand::Show(which)
    | LettersCommand::Replay(which)
    | LettersCommand::Skip(which)) = command;
    let letters: Vec<Letter> =
        letters.into_iter().filter(|letter| which.includes(config, &letter.record)).collect();
    let dead_letters = DeadLetterTopic::new(
        connection.producer_config(CLIENT),
        config.dead_letter.topic.clone(),
        config.kafka.max_message_bytes,
    );
    match command {
        LettersCommand::List(_) => list(config, &letters, out)?,
        LettersCommand::Show(_) => letters.iter().try_for_each(|letter| show(config, letter, out))?,
        LettersCommand::Skip(_) => {
            for letter in &letters {
                dead_letters.resolve(&letter.record, "skipped").await?;
            }
            writeln!(out, "{} dead letters skipped", letters.len())?;
        }
        LettersCommand::Replay(_) => {
            let records = Records::new(properties);
            for letter in &letters {
                replay(config, &dead_letters, &records, &letter.record).await?;
            }
            writeln!(out, "{} dead letters replayed", letters.len())?;
        }
    }
    Ok(())
}

async fn replay(
    config: &SinkConfig,
    dead_letters: &DeadLetterTopic,
    records: &Records,
    letter: &DeadLetter,
) -> anyhow::Result<()> {
    let place = Place { partition: letter.partition, offset: letter.offset };
    let named = format!("{} {}:{}", table_of(config, letter), letter.partition, letter.offset);
    anyhow::ensure!(
        letter.partition >= 0,
        "{named} is a row that was read at the source: mend the cause, then ask for the table to be read again"
    );
    let record = if letter.truncated.is_some() {
        records.fetch(&letter.topic, place).await.ok_or_else(|| {
            anyhow::anyhow!(
                "{named}: the letter has only the beginning of the value, and its topic does not have the record any \
                 more; ask for the table to be read again, then skip the letter"
            )
        })?
    } else {
        letter.clone()
    };
    dead_letters.replay(&record).await?;
    dead_letters.resolve(letter, "replayed").await?;
    Ok(())
}

fn list(config: &SinkConfig, letters: &[Letter], out: &mut impl Write) -> std::io::Result<()> {
    if letters.is_empty() {
        return writeln!(out, "no open dead letters");
    }
    let rows: Vec<[String; 5]> = letters
        .iter()
        .map(|Letter { record, written_at }| {
            [
                table_of(config, record).to_owned(),
                record.partition.to_string(),
                record.offset.to_string(),
                time(*written_at),
                record.error.replace('\n', " "),
            ]
        })
        .collect();
    let head = ["TABLE", "PARTITION", "OFFSET", "WRITTEN", "ERROR"].map(str::to_owned);
    let mut widths = [0; 5];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn show(config: &SinkConfig, letter: &Letter, out: &mut impl Write) -> std::io::Result<()> {
    let record = &letter.record;
    writeln!(
        out,
        "{} partition {} offset {}, written {}",
        table_of(config, record),
        record.partition,
        record.offset,
        time(letter.written_at)
    )?;
    writeln!(out, "  error: {}", record.error)?;
    if let Some(bytes) = record.truncated {
        writeln!(out, "  the value is cut: it has {bytes} bytes")?;
    }
    for (name, value) in &record.headers {
        let value = value.as_deref().map_or_else(|| "null".into(), String::from_utf8_lossy);
        writeln!(out, "  header {name}: {value}")?;
    }
    for (name, value) in [("key", &record.key), ("value", &record.payload)] {
        let Some(value) = value else {
            writeln!(out, "  {name}: null")?;
            continue;
        };
        let shown = &value[..value.len().min(SHOWN)];
        writeln!(out, "  {name}: {}", String::from_utf8_lossy(shown))?;
        if shown.len() < value.len() {
            writeln!(out, "  … {} more bytes", value.len() - shown.len())?;
        }
    }
    Ok(())
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let record = DeadLetter {
            topic: "shop.public.orders".to_owned(),
            partition: 2,
            offset: 17,
            key: Some(br#"{"id":1}"#.to_vec()),
            payload: Some(b"{}".to_vec()),
            error: "field total: null\nin a column".to_owned(),
            ..DeadLetter::default()
        };
        Letter { record, written_at: 1_795_455_364_270 }
    }

    #[test]
    fn letters_are_listed_in_columns_and_chosen_by_table_and_place() {
        let config = crate::config::example();
        let mut out = Vec::new();
        list(&config, &[letter()], &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        TABLE   PARTITION  OFFSET  WRITTEN                  ERROR
        orders  2          17      2026-11-23T17:36:04.27Z  field total: null in a column
        ");
        let which = |table: &str, offset| Which { table: Some(table.to_owned()), partition: None, offset };
        assert!(which("orders", None).includes(&config, &letter().record));
        assert!(which("orders", Some(17)).includes(&config, &letter().record));
        assert!(!which("orders", Some(18)).includes(&config, &letter().record));
        assert!(!which("items", None).includes(&config, &letter().record));
    }
}
