//! Who may use the schema of which model, and who owns which table.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::User;

/// The schema of tables that users create.
pub(crate) const TABLES: &str = "public";

/// The name that stands for every user.
pub const PUBLIC: &str = "public";

/// Privileges on schemas of models and published data, and owners of tables.
///
/// Everybody may use a schema of which nothing is said: `PUBLIC` has that privilege until it is revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privileges {
    usage: BTreeMap<String, Usage>,
    /// Owners by schema and name of a table.
    owners: BTreeMap<(String, String), String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Usage {
    /// True if everybody may use the schema.
    public: bool,
    users: BTreeSet<String>,
}

/// A privilege as the password file keeps it, one a line after a colon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Kept {
    Usage { usage: String, public: bool, users: BTreeSet<String> },
    Owner { owner: String, schema: String, table: String },
}

impl Privileges {
    /// Returns true if a user may use a schema.
    pub fn may_use(&self, user: &User, schema: &str) -> bool {
        user.uses_all
            || self.usage.get(schema).is_none_or(|usage| usage.public || usage.users.contains(&user.name))
            || self.owner(TABLES, schema) == Some(&user.name)
    }

    /// Returns the schemas that a user may not use.
    pub fn hidden(&self, user: &User) -> Vec<String> {
        self.usage.keys().filter(|schema| !self.may_use(user, schema)).cloned().collect()
    }

    /// Grants the use of a schema to users, or revokes it; [`PUBLIC`] stands for everybody.
    pub fn set_usage(&mut self, schema: &str, users: &[String], granted: bool) {
        let everybody = Usage { public: true, users: BTreeSet::new() };
        let usage = self.usage.entry(schema.to_owned()).or_insert_with(|| everybody.clone());
        for user in users {
            match (user.as_str(), granted) {
                (PUBLIC, granted) => usage.public = granted,
                (user, true) => {
                    usage.users.insert(user.to_owned());
                }
                (user, false) => {
                    usage.users.remove(user);
                }
            }
        }
        if *usage == everybody {
            self.usage.remove(schema);
        }
    }

    /// Returns the owner of a table; `None` if it belongs to superusers.
    pub fn owner(&self, schema: &str, table: &str) -> Option<&String> {
        self.owners.get(&(schema.to_owned(), table.to_owned()))
    }

    /// Sets the owner of a table, `None` for superusers; returns true if it was another before.
    pub(crate) fn set_owner(&mut self, schema: &str, table: &str, owner: Option<&str>) -> bool {
        let key = (schema.to_owned(), table.to_owned());
        let before = match owner {
            Some(owner) => self.owners.insert(key, owner.to_owned()),
            None => self.owners.remove(&key),
        };
        before.as_deref() != owner
    }

    /// Returns the tables that have an owner, with their schemas.
    pub(crate) fn owned(&self) -> impl Iterator<Item = (&str, &str)> {
        self.owners.keys().map(|(schema, table)| (schema.as_str(), table.as_str()))
    }

    /// Forgets a user.
    pub(crate) fn forget(&mut self, user: &str) {
        self.usage.values_mut().for_each(|usage| {
            usage.users.remove(user);
        });
        self.owners.retain(|_, owner| owner != user);
    }

    /// Adds the privilege of a line, which is without its colon.
    pub(crate) fn read(&mut self, line: &str) -> Result<(), String> {
        let kept: Kept = serde_json::from_str(line).map_err(|_| "malformed privileges".to_owned())?;
        let is_new = match kept {
            Kept::Usage { usage, public, users } => self.usage.insert(usage, Usage { public, users }).is_none(),
            Kept::Owner { owner, schema, table } => self.owners.insert((schema, table), owner).is_none(),
        };
        if is_new { Ok(()) } else { Err("privileges occur twice".into()) }
    }

    /// Returns the lines that [`Privileges::read`] reads.
    pub(crate) fn lines(&self) -> Vec<String> {
        let usage = self.usage.iter().map(|(schema, usage)| Kept::Usage {
            usage: schema.clone(),
            public: usage.public,
            users: usage.users.clone(),
        });
        let owners = self.owners.iter().map(|((schema, table), owner)| Kept::Owner {
            owner: owner.clone(),
            schema: schema.clone(),
            table: table.clone(),
        });
        // Texts and a truth value are always JSON.
        usage.chain(owners).filter_map(|kept| serde_json::to_string(&kept).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use neuroql::Role;

    use super::*;

    #[test]
    fn everybody_may_use_a_schema_until_it_is_revoked() {
        let (ada, ann, bob) =
            (User::new("ada", Role::Superuser), User::new("ann", Role::Analyst), User::new("bob", Role::Reader));
        let may = |privileges: &Privileges| [&ada, &ann, &bob].map(|user| privileges.may_use(user, "smol"));
        let mut privileges = Privileges::default();
        assert_eq!(may(&privileges), [true; 3]);
        privileges.set_usage("smol", &[PUBLIC.into()], false);
        assert_eq!(may(&privileges), [true, false, false]);
        assert_eq!(privileges.hidden(&bob), ["smol"]);
        privileges.set_usage("smol", &["bob".into()], true);
        assert_eq!(may(&privileges), [true, false, true]);
        assert!(
            privileges.set_owner(TABLES, "smol", Some("ann")) && !privileges.set_owner(TABLES, "smol", Some("ann"))
        );
        assert_eq!(may(&privileges), [true; 3]);
        assert!(privileges.may_use(&ada.clone().as_reader(), "smol"));

        let mut read = Privileges::default();
        privileges.lines().iter().for_each(|line| read.read(line).unwrap());
        assert_eq!(read, privileges);

        privileges.forget("bob");
        assert_eq!(may(&privileges), [true, true, false]);
        privileges.set_usage("smol", &[PUBLIC.into()], true);
        assert_eq!(privileges.lines(), [r#"{"owner":"ann","schema":"public","table":"smol"}"#]);
        for bad in ["", "{}", r#"{"usage":"a"}"#, r#"{"owner":"a","schema":"b","table":"c","d":1}"#, "[]"] {
            assert!(read.read(bad).is_err(), "{bad}");
        }
        assert!(read.read(&privileges.lines()[0]).unwrap_err().contains("twice"));
    }
}
