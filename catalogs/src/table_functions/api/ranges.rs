//! Ranges as text: `0-3,7`.

use std::fmt;
use std::str::FromStr;

/// Numbers written as ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u32, u32)>);

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("is '{text}', expected numbers and ranges such as '0-3,7'");
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Ok((number(first)?, number(last)?)),
            None => number(part).map(|n| (n, n)),
        };
        let ranges = text.split(',').map(range).collect::<Result<Vec<_>, String>>()?;
        if ranges.iter().any(|(first, last)| first > last) {
            return Err(wrong());
        }
        Ok(Self(ranges))
    }
}

impl Ranges {
    /// Ascending numbers as ranges.
    pub fn of(numbers: &[u32]) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &n in numbers {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == n => *last = n,
                _ => ranges.push((n, n)),
            }
        }
        Self(ranges)
    }

    /// The numbers, ascending, each once.
    ///
    /// # Errors
    /// The first that is not below the limit.
    pub fn below(&self, limit: u32) -> Result<Vec<u32>, u32> {
        if let Some((first, _)) = self.0.iter().find(|(_, last)| *last >= limit) {
            return Err((*first).max(limit));
        }
        let mut numbers: Vec<u32> = self.0.iter().flat_map(|(first, last)| *first..=*last).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let ranges = |text: &str| text.parse::<Ranges>();
        assert_eq!(ranges("0-3, 7,2").unwrap().below(8), Ok(vec![0, 1, 2, 3, 7]));
        assert_eq!(ranges("5").unwrap().below(5), Err(5));
        assert_eq!(ranges("0-4294967295").unwrap().below(30), Err(30));
        for bad in ["", "a", "3-1", "1-", "-1", "1,,2"] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
        assert_eq!(Ranges::of(&[0, 1, 2, 5, 7, 8]).to_string(), "0-2,5,7-8");
    }
}
