//! `neuroql user`: the users of a password file.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use neuroql_access::{PasswordFile, User, UserLimits};

use crate::arguments::{self, UserCommand};
use crate::console::{self, Failure};

/// Runs a command on the users of a password file.
pub(crate) fn run(options: arguments::Users) -> Result<(), Failure> {
    match options.command {
        UserCommand::Add { file, name, role, limits } => {
            let limits = UserLimits {
                max_connections: limits.max_connections,
                max_statements: limits.max_statements,
                memory: limits.memory,
                statement_timeout: limits.statement_timeout,
                max_statement_timeout: limits.max_statement_timeout,
            };
            let user = User { limits, ..User::new(name, role) };
            let password = password(&user.name)?;
            PasswordFile::edit(&file, true, |users| users.add(user, &password))?;
        }
        UserCommand::Remove { file, name } => {
            PasswordFile::edit(&file, false, |users| users.remove(&name))?;
        }
        UserCommand::Password { file, name } => {
            check_exists(&file, &name)?;
            let password = password(&name)?;
            PasswordFile::edit(&file, false, |users| users.set_password(&name, &password))?;
        }
        UserCommand::List { file } => list(&file)?,
    }
    Ok(())
}

/// Refuses a user who is not there before a password is asked for.
fn check_exists(file: &Path, name: &str) -> Result<(), Failure> {
    match PasswordFile::read(file)?.user(name) {
        Some(_) => Ok(()),
        None => Err(Failure {
            message: format!("password file {}: there is no user \"{name}\"", file.display()),
            hint: None,
        }),
    }
}

fn list(file: &Path) -> Result<(), Failure> {
    let read = PasswordFile::read(file)?;
    let mut text = String::new();
    for (user, is_plain) in read.list() {
        let attributes = user.attributes().replacen(',', "  ", 1).replace(',', " ");
        let warning = if is_plain { "  (plain password: neuroql user password replaces it)" } else { "" };
        text += &format!("{}  {attributes}{warning}\n", user.name.escape_debug());
    }
    Ok(console::print(&text)?)
}

/// Asks for a password on the terminal, twice, or reads the first line of standard input.
fn password(user: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    let password = rpassword::prompt_password(format!("Password of {user}: "))?;
    if rpassword::prompt_password("The same again: ")? != password {
        return Err(Failure { message: "the passwords are not the same".into(), hint: None });
    }
    Ok(password)
}
