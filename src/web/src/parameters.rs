//! Parameters of requests.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::error::{Fault, PageFault};

/// Greatest number of bytes of a text that is run through models.
pub(crate) const MOST_TEXT: usize = 64 << 10;

/// The parameters after the `?` of an address; empty ones are as if they were not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = PageFault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageFault> {
        let read = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Ok(Query(pairs)) = read else {
            return Err(Fault::bad_request("the parameters of the address cannot be read").into());
        };
        Ok(Self(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }
}

impl Parameters {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names of the parameters, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns a parameter that is needed.
    ///
    /// # Errors
    /// 400 if it is not given.
    pub fn required(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or_else(|| Fault::bad_request(format!("the parameter {name} is missing")))
    }

    /// Reads a number.
    ///
    /// # Errors
    /// 400 if it is none.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let shown: String = text.chars().take(40).collect();
                Err(Fault::bad_request(format!("the parameter {name} is \"{shown}\", which is not a number here")))
            }
        }
    }

    /// Returns a text for models.
    ///
    /// # Errors
    /// 400 if it is longer than [`MOST_TEXT`].
    pub fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        match self.get(name) {
            Some(text) if text.len() > MOST_TEXT => {
                Err(Fault::bad_request(format!("a text may have {MOST_TEXT} bytes here, this one has {}", text.len())))
            }
            text => Ok(text),
        }
    }

    /// Returns a text that was typed into a form: line breaks are `\n`, which forms send as `\r\n`.
    ///
    /// # Errors
    /// 400 if it is longer than [`MOST_TEXT`].
    pub fn typed(&self, name: &str) -> Result<Option<String>, Fault> {
        Ok(self.text(name)?.map(|text| text.replace("\r\n", "\n")))
    }
}
