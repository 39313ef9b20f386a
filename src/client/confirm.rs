//! The confirmation before a removal of most of the fleet or of the last replica.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::Value;

use super::draw;

/// Whether there is a person to ask: a script must not wait for an answer.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a confirmation if the removal needs one. `preview` is its dry run.
///
/// # Errors
/// The person declines, or no answer can be read.
pub(super) fn confirm(preview: &Value) -> anyhow::Result<()> {
    let count = |side: &str| preview[side]["replicas"].as_array().map_or(0, Vec::len);
    let (before, after) = (count("before"), count("after"));
    if !needs_confirmation(before, after) {
        return Ok(());
    }
    let mut terminal = io::stderr();
    let written = write!(
        terminal,
        "{}remove {} of {before} replicas? [y/N] ",
        draw::change(preview, true),
        before.saturating_sub(after)
    );
    written.and_then(|()| terminal.flush()).context("the question cannot be shown; see `--yes`")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("no answer; see `--yes`")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was removed"),
    }
}

/// Whether a removal takes more than half of the fleet, or the last replica.
fn needs_confirmation(before: usize, after: usize) -> bool {
    let removed = before.saturating_sub(after);
    removed > 0 && (after == 0 || 2 * removed > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_more_than_half_or_the_last_needs_confirmation() {
        let needed = [(1, 0), (2, 0), (3, 1), (3, 0), (5, 2), (4, 1)];
        let not_needed = [(0, 0), (2, 1), (3, 2), (4, 2), (5, 3), (10, 5)];
        for (cases, expected) in [(&needed, true), (&not_needed, false)] {
            for &(before, after) in cases {
                assert_eq!(needs_confirmation(before, after), expected, "{before} {after}");
            }
        }
    }
}
