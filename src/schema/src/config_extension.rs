//! Extensions of a session's configuration that hold values, and no settings that SQL could see or change.

/// Implements [`ConfigExtension`](datafusion::common::config::ConfigExtension) for a type of the crate that calls it:
/// `private_config_extension!(Rights, "neuroql_rights")`. The type must be `Clone`, `Debug`, `Send` and `Sync`; the
/// prefix must be its own. `SET prefix.x` is an error, and `SHOW ALL` does not list it.
#[macro_export]
macro_rules! private_config_extension {
    ($type:ty, $prefix:literal) => {
        impl ::datafusion::common::config::ConfigExtension for $type {
            const PREFIX: &'static str = $prefix;
        }

        impl ::datafusion::common::config::ExtensionOptions for $type {
            fn as_any(&self) -> &dyn ::std::any::Any {
                self
            }

            fn as_any_mut(&mut self) -> &mut dyn ::std::any::Any {
                self
            }

            fn cloned(&self) -> ::std::boxed::Box<dyn ::datafusion::common::config::ExtensionOptions> {
                ::std::boxed::Box::new(self.clone())
            }

            fn set(&mut self, key: &str, _: &str) -> ::datafusion::error::Result<()> {
                ::datafusion::common::plan_err!("there is no setting {}.{key}", $prefix)
            }

            fn entries(&self) -> ::std::vec::Vec<::datafusion::common::config::ConfigEntry> {
                ::std::vec::Vec::new()
            }
        }
    };
}
