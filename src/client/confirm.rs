//! The question before a removal that could be a slip: most of the fleet, or the last of it.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::Value;

use super::draw;

/// Whether there is a person to ask. Scripts are not asked: they say what they mean.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks about a removal, if it is one to ask about. `preview`: the dry run of it.
///
/// # Errors
/// It is not wanted, or no answer can be read.
pub(super) fn confirm(preview: &Value) -> anyhow::Result<()> {
    let count = |side: &str| preview[side]["replicas"].as_array().map_or(0, Vec::len);
    let (before, after) = (count("before"), count("after"));
    if !is_worth_a_question(before, after) {
        return Ok(());
    }
    let mut terminal = io::stderr();
    let asked = write!(
        terminal,
        "{}remove {} of {before} replicas? [y/N] ",
        draw::change(preview, true),
        before.saturating_sub(after)
    );
    asked.and_then(|()| terminal.flush()).context("the question cannot be shown; see `--yes`")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("no answer; see `--yes`")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was removed"),
    }
}

/// Whether a removal takes more than half of the fleet, or the last replica.
fn is_worth_a_question(before: usize, after: usize) -> bool {
    let removed = before.saturating_sub(after);
    removed > 0 && (after == 0 || 2 * removed > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_and_the_last_are_asked_about() {
        let asked = [(1, 0), (2, 0), (3, 1), (3, 0), (5, 2), (4, 1)];
        let not_asked = [(0, 0), (2, 1), (3, 2), (4, 2), (5, 3), (10, 5)];
        for (cases, expected) in [(&asked, true), (&not_asked, false)] {
            for &(before, after) in cases {
                assert_eq!(is_worth_a_question(before, after), expected, "{before} {after}");
            }
        }
    }
}
