//! Logs: JSON for machines, plain text for a terminal.
