//! Settings of a session: `SET neuroql.device = 'cuda:0'`.

use std::fmt;

use datafusion::common::config::ConfigExtension;
use datafusion::common::{config_field, extensions_options};
use neuroql_model::DeviceName;
use neuroql_schema::sql_error;

extensions_options! {
    /// Settings for the models that a session registers.
    pub struct Settings {
        /// Device of models whose registration names none: cpu, cuda or cuda:N.
        pub device: SessionDevice, default = SessionDevice::default()
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "neuroql";
}

/// A device as a setting.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SessionDevice(pub DeviceName);

impl fmt::Display for SessionDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

config_field!(SessionDevice, value => SessionDevice(value.parse().map_err(sql_error)?));
