//! What a measurement found: numbers for machines, tables for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contest::Contestant;

/// The result of one measurement.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The subcommand.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) findings: Vec<Finding>,
    /// What has to be known to read the numbers.
    pub(crate) notes: Vec<String>,
    /// How many processes wanted a processor when the measurement began, on average over the minute before: the noise.
    pub(crate) load_before: Option<f64>,
}

/// Numbers in rows; a place may be empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) values: Vec<Option<f64>>,
}

/// A number that a goal asks for, with what it is to be compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Of `goals.rs`.
    pub(crate) goal: String,
    pub(crate) ours: f64,
    pub(crate) limit: Option<f64>,
    pub(crate) peer: Option<f64>,
    /// What two free cores would have time for, where that is computed.
    #[serde(default)]
    pub(crate) allowed: Option<f64>,
}

/// A picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plot {
    /// The name of the file, without its ending.
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) kind: PlotKind,
    pub(crate) series: Vec<Series>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PlotKind {
    /// Lines; x grows by factors.
    LogX,
    /// Lines; y grows by factors.
    LogY,
    /// Bars from each x to the next; x grows by factors.
    Bars,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Section {
    pub(crate) fn new(name: &str, title: impl Into<String>) -> Self {
        Self { name: name.to_owned(), title: title.into(), ..Self::default() }
    }

    pub(crate) fn find(&mut self, goal: &str, ours: f64, limit: Option<f64>, peer: Option<f64>) {
        if !ours.is_finite() {
            return self.note(format!("Not found: {goal}."));
        }
        self.findings.push(Finding { goal: goal.to_owned(), ours, limit, peer, allowed: None });
    }

    /// A rate, with what two free cores would have time for.
    pub(crate) fn find_rate(&mut self, goal: &str, ours: &Contestant, limit: Option<&Contestant>, peer: Option<f64>) {
        self.find(goal, ours.rate(), limit.map(Contestant::rate), peer);
        if let Some(finding) = self.findings.last_mut() {
            finding.allowed = Some(ours.allowed());
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The tables, each below its title.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("\n### {}\n", self.title);
        for table in &self.tables {
            text.push('\n');
            text.push_str(&table.to_markdown());
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        if let Some(load) = self.load_before {
            let _ = write!(text, "\nLoad of the machine in the minute before: {}.\n", readable(load));
        }
        text
    }

    /// Writes `<name>.json` into the folder.
    pub(crate) fn save(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(format!("{}.json", self.name)), serde_json::to_vec_pretty(self).unwrap()).unwrap();
    }
}

impl Series {
    /// Points without a value are left out.
    pub(crate) fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        Self { name: name.into(), points }
    }
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, values: &[f64]) {
        let values = values.iter().map(|value| value.is_finite().then_some(*value)).collect();
        self.rows.push(Row { name: name.into(), values });
    }

    fn to_markdown(&self) -> String {
        let mut text = format!("| {} | {} |\n| --- |", self.title, self.columns.join(" | "));
        text.push_str(&" ---: |".repeat(self.columns.len()));
        for row in &self.rows {
            let cells: Vec<String> = row.values.iter().map(|value| value.map_or_else(String::new, readable)).collect();
            let _ = write!(text, "\n| {} | {} |", row.name, cells.join(" | "));
        }
        text.push('\n');
        text
    }
}

/// Three digits, with `k` and `M` for thousands and millions: more would be noise.
pub(crate) fn readable(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, " M"),
        size if size >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 => 2,
        _ => 4,
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// The value below which the part of the others lies. The values are sorted here.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => values[((count as f64 * part) as usize).min(count - 1)],
    }
}

/// Of the last minute, where the system tells.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(&mut values.collect::<Vec<f64>>(), 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.012, "0.012"),
            (0.5, "0.5"),
            (3.456, "3.46"),
            (99.96, "100"),
            (1234.0, "1234"),
            (9996.0, "10 k"),
            (123_456.0, "123 k"),
            (1_234_567.0, "1.23 M"),
        ];
        for (value, text) in cases {
            assert_eq!(readable(value), text);
        }
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.99), 3.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
