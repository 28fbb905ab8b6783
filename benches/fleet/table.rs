//! A table, as text that is Markdown as well, or as JSON.

use serde_json::{Value, json};
use std::fmt;

pub struct Table {
    name: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(name: &'static str, columns: [&'static str; N]) -> Self {
        Self { name, columns: columns.into(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "{}", self.name);
        self.rows.push(cells.into());
    }

    pub fn json(&self) -> Value {
        json!({ "table": self.name, "columns": self.columns, "rows": self.rows })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = &str>| {
            cells.zip(&widths).try_for_each(|(cell, &width)| write!(f, "| {cell:>width$} "))?;
            writeln!(f, "|")
        };
        writeln!(f, "{}\n", self.name)?;
        line(f, &mut self.columns.iter().copied())?;
        widths.iter().try_for_each(|&width| write!(f, "|{}:", "-".repeat(width + 1)))?;
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, &mut row.iter().map(String::as_str)))
    }
}
