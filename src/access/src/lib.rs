//! Users, their authentication, and the permissions of plans that they run.
//!
//! Front ends share this: [`Users`] follow the password file, [`Exchange`] is a SCRAM-SHA-256 conversation, bound to its
//! channel or not, [`Permissions`] decide on a logical plan, because statements hide in statements.

mod audit;
mod concealed;
mod error;
mod exposure;
mod failed_logins;
mod hosts;
mod locations;
mod password_file;
mod permissions;
mod privileges;
mod scram;
mod settings;
mod user;
mod users;

pub use audit::{AuditLog, Event};
pub use error::{Denial, Error};
pub use exposure::{Missing, missing};
pub use failed_logins::FailedLogins;
pub use hosts::{ClientCertificate, Connecting, HostRules, Login};
pub use locations::AllowedLocations;
pub use password_file::PasswordFile;
pub use permissions::{Permissions, TEMPORARY, resolved_table};
pub use privileges::{PUBLIC, Privileges};
pub use scram::{ChannelBinding, Exchange, Verifier};
pub use settings::check_setting;
pub use user::{User, UserLimits, parse_size, parse_time};
pub use users::Users;
