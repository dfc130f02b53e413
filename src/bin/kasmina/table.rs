//! Tables of text: columns as wide as they need to be.

/// Rows under a heading. A column in which every entry is a number is flush right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(heading: &[&str]) -> Table {
        Table { rows: vec![heading.iter().map(|&name| name.to_string()).collect()] }
    }

    /// Adds a row; it has an entry for each column.
    pub fn row(&mut self, entries: impl Into<Vec<String>>) {
        self.rows.push(entries.into());
    }

    /// The table, each line after `indent`.
    pub fn print(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let entries = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<_> =
            (0..columns).map(|column| entries(column).map(|entry| entry.chars().count()).max().unwrap_or(0)).collect();
        let is_number = |entry: &String| entry.chars().all(|letter| letter.is_ascii_digit());
        let right: Vec<_> = (0..columns).map(|column| entries(column).skip(1).all(is_number)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_string();
            for (column, entry) in row.iter().enumerate() {
                let width = widths[column];
                line += &if right[column] { format!("{entry:>width$}  ") } else { format!("{entry:<width$}  ") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}
