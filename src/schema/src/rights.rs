//! The rights of a session's user. Tables and functions ask it, because the values of a plan's parameters are known
//! only at its execution.

use std::fmt::{self, Debug};
use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;

use crate::Error;

/// Roles of users. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads tables and runs models.
    Reader,
    /// Registers models and datasets, analyses, builds graphs, and owns tables.
    Analyst,
    /// Does everything.
    Superuser,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Analyst, Self::Superuser];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Analyst => "analyst",
            Self::Superuser => "superuser",
        }
    }

    /// Returns the users of this role and above, for messages: `only … may do this`.
    pub fn and_above(self) -> &'static str {
        match self {
            Self::Reader => "a user",
            Self::Analyst => "an analyst or a superuser",
            Self::Superuser => "a superuser",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| format!("\"{text}\" is not a role; roles are reader, analyst and superuser"))
    }
}

/// The schemas of models and published data that a user may use.
pub trait SchemaUsage: Debug + Send + Sync {
    /// Returns true if the user may use the schema of this name now.
    fn may_use(&self, schema: &str) -> bool;
}

/// The rights of a session's user: an extension of its configuration. A session without one may do everything.
#[derive(Debug, Clone)]
pub struct Rights {
    role: Role,
    /// `None` for all schemas.
    schemas: Option<Arc<dyn SchemaUsage>>,
}

impl Default for Rights {
    fn default() -> Self {
        Self { role: Role::Superuser, schemas: None }
    }
}

impl Rights {
    /// Creates the rights of a user.
    pub fn new(role: Role, schemas: Arc<dyn SchemaUsage>) -> Self {
        Self { role, schemas: Some(schemas) }
    }

    /// Returns the rights of a session with these options.
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Returns true if the user may do what users of a role may.
    pub fn has(&self, role: Role) -> bool {
        self.role >= role
    }

    /// Returns true if the user may use a schema.
    pub fn may_use(&self, schema: &str) -> bool {
        self.schemas.as_ref().is_none_or(|schemas| schemas.may_use(schema))
    }

    /// Refuses a schema that the user may not use.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn check_schema(&self, schema: &str) -> Result<(), Error> {
        if self.may_use(schema) { Ok(()) } else { Err(Error::Denied(format!("schema {schema}"))) }
    }
}

crate::private_config_extension!(Rights, "neuroql_rights");

#[cfg(test)]
mod tests {
    use datafusion::common::config::ConfigExtension;

    use super::*;

    #[derive(Debug)]
    struct Only(&'static str);

    impl SchemaUsage for Only {
        fn may_use(&self, schema: &str) -> bool {
            schema == self.0
        }
    }

    #[test]
    fn a_session_has_the_rights_of_its_options() {
        let mut options = ConfigOptions::new();
        assert!(Rights::of(&options).has(Role::Superuser) && Rights::of(&options).may_use("toy"));
        options.extensions.insert(Rights::new(Role::Analyst, Arc::new(Only("toy"))));
        let rights = Rights::of(&options);
        assert!(rights.has(Role::Reader) && rights.has(Role::Analyst) && !rights.has(Role::Superuser));
        assert!(rights.check_schema("toy").is_ok());
        let error = rights.check_schema("smol").unwrap_err();
        assert_eq!((error.sqlstate(), error.to_string().as_str()), ("42501", "permission denied for schema smol"));
        assert!(options.set("neuroql_rights.role", "superuser").is_err());
        assert!(options.entries().iter().all(|entry| !entry.key.starts_with(Rights::PREFIX)));
    }

    #[test]
    fn roles_have_names() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("admin".parse::<Role>().unwrap_err().contains("admin"));
    }
}
