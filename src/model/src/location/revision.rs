//! Revisions of the hub's repositories, and the training step that their names have.

/// Revision of a repository of the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its name: a branch or tag such as `main` or `step1000`, or a commit.
    pub name: String,
    /// Commit that it was when the files were fetched.
    pub commit: String,
}

impl Revision {
    /// Training step that the name has: 1000 of `step1000`, `step1000-tokens4B`, `stage1-step1000` and `step-1000`; `None` of
    /// any other name.
    pub fn step(&self) -> Option<i64> {
        let name = self.name.to_ascii_lowercase();
        let (before, after) = name.rsplit_once("step")?;
        if before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let digits = after.strip_prefix(['-', '_', '=']).unwrap_or(after);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        // `step_20k` counts in thousands, or something else.
        match digits[end..].starts_with(|c: char| c.is_alphanumeric()) {
            true => None,
            false => digits[..end].parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Revision;

    #[test]
    fn steps_of_names() {
        let step = |name: &str| Revision { name: name.into(), commit: String::new() }.step();
        for (name, wanted) in [
            ("step1000", Some(1000)),
            ("step0", Some(0)),
            ("step1000-tokens4B", Some(1000)),
            ("stage1-step1000-tokens3B", Some(1000)),
            ("step-125000", Some(125_000)),
            ("Step_7", Some(7)),
            ("refs/pr/step=12", Some(12)),
            ("main", None),
            ("step", None),
            ("steps100", None),
            ("footstep100", None),
            ("step_20k", None),
            ("seed_0-step_20k", None),
            ("step99999999999999999999", None),
            ("step１", None),
            ("", None),
        ] {
            assert_eq!(step(name), wanted, "{name}");
        }
    }
}
