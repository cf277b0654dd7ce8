//! Labels of tokens.

/// The label of a token: escaped as JSON with ASCII only, without brackets and quotes around it; as it is if there is a
/// quote in it; in single quotes if it is all spaces.
pub(super) fn of(token: &str) -> String {
    if token.contains('"') {
        return token.to_owned();
    }
    if !token.is_empty() && token.chars().all(|letter| letter == ' ') {
        return format!("'{token}'");
    }
    let mut label = String::new();
    for letter in token.chars() {
        match letter {
            '\\' => label += "\\\\",
            '\n' => label += "\\n",
            '\r' => label += "\\r",
            '\t' => label += "\\t",
            '\u{8}' => label += "\\b",
            '\u{c}' => label += "\\f",
            ' '..='~' => label.push(letter),
            _ => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| label += &format!("\\u{unit:04x}")),
        }
    }
    label.trim_matches(['[', ']']).to_owned()
}

/// The token of a label, as far as labels are unambiguous.
pub(super) fn token(label: &str) -> String {
    let spaces = label.strip_prefix('\'').and_then(|label| label.strip_suffix('\''));
    if let Some(spaces) = spaces.filter(|spaces| !spaces.is_empty() && spaces.chars().all(|letter| letter == ' ')) {
        return spaces.to_owned();
    }
    serde_json::from_str(&format!("\"{label}\"")).unwrap_or_else(|_| label.to_owned())
}
