//! Text that others have written, as a terminal may show it. File names, log lines and the strings of a spec can hold sequences that move the
//! cursor, clear the screen or retitle the window, and characters that let text be read in another order than it is written in: what would
//! not be seen as itself is shown by its number instead.

/// Text with every character that is not seen as itself by its number, such as `\u{1b}`. Line ends and tabs stay.
pub fn shown(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        match character {
            '\n' | '\t' => shown.push(character),
            hidden if is_hidden(hidden) => shown.extend(hidden.escape_default()),
            seen => shown.push(seen),
        }
        shown
    })
}

/// The same for what has to stay on one line, such as a cell of a table.
pub fn shown_in_line(text: &str) -> String {
    shown(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Whether a terminal takes a character for an order, or shows nothing for it, or shows what follows in another order. (Unicode 16, general
/// categories Cc, Zl and Zp; of Cf the marks, embeddings, overrides and isolates of UAX #9, what is invisible, and tags)
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_by_its_number_and_what_people_write_stays() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{7}\r\u{202e}gpj.exe\u{2066}\u{feff}\u{0}\u{7f}";
        let expected = "a\\u{1b}[2J\\u{9b}31m\\u{7}\\r\\u{202e}gpj.exe\\u{2066}\\u{feff}\\u{0}\\u{7f}";
        assert_eq!(shown(hostile), expected);
        assert_eq!(shown(expected), expected, "once is enough");
        // A combining accent, an emoji with a joiner, Persian with a non-joiner, a no-break space.
        for plain in ["one\n\ttwo", "Cafe\u{301}", "👩\u{200d}🔬", "می\u{200c}خواهم", "1\u{a0}000 °C █░ — └"]
        {
            assert_eq!(shown(plain), plain);
        }
        assert_eq!(shown_in_line("one\n\ttwo\u{1b}"), "one\\n\\ttwo\\u{1b}");
    }
}
