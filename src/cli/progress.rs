//! How far a file on its way has come, on a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;

/// A bar of bytes; one that shows nothing for scripts.
pub(super) fn bar(output: Output) -> ProgressBar {
    let is_live = stderr().is_terminal() && !output.is_json();
    let target = if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    // The template is ours and right; if it were not, the bar would have its default looks.
    let template = "{msg}[{bar:24}] {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
