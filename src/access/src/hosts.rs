//! Who may connect from where: rules like those of Postgres' `pg_hba.conf`.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;

use crate::Error;

/// Rules on hosts. The first that matches decides; a client that none matches is refused. Without a file every user may
/// connect from everywhere, with a password.
#[derive(Debug, Default)]
pub struct HostRules {
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    encryption: Encryption,
    /// `None` for all.
    databases: Option<Vec<String>>,
    users: Option<Vec<String>>,
    addresses: Option<IpNet>,
    method: Method,
    certificate: CertificateCheck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Password,
    Certificate,
    Reject,
}

/// Requirement on a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CertificateCheck {
    None,
    /// There is one.
    Given,
    /// Its common name is that of the user.
    Named,
}

/// Authentication method of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// By a password.
    Password,
    /// By its certificate, which was checked.
    Certificate,
}

/// A certificate that a client has shown, signed by an authority that the server trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The common name of its subject.
    pub common_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Either,
    Needed,
    Refused,
}

/// A client that wants to log in.
#[derive(Debug, Clone, Copy)]
pub struct Connecting<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// Name of the database.
    pub database: &'a str,
    /// Address of the client.
    pub address: IpAddr,
    /// True if the connection is encrypted.
    pub is_encrypted: bool,
    /// The certificate that the client has shown.
    pub certificate: Option<&'a ClientCertificate>,
}

impl HostRules {
    /// Reads a file of rules: `host`, `hostssl` or `hostnossl`, databases, users, addresses and a method, which is
    /// `scram-sha-256`, `cert` or `reject`. `hostssl` rules may ask for certificates by `clientcert=verify-ca` or
    /// `clientcert=verify-full`.
    ///
    /// # Errors
    /// [`Error::HostRules`] with the line that cannot be read.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bad = |reason: String| Error::HostRules { file: file.to_path_buf(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        Self::parse(&text).map_err(bad)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words = words(line).map_err(|reason| format!("line {number}: {reason}"))?;
            if !words.is_empty() {
                rules.push(Rule::parse(&words).map_err(|reason| format!("line {number}: {reason}"))?);
            }
        }
        Ok(Self { rules: Some(rules) })
    }

    /// Returns true if a rule asks for certificates of clients.
    pub fn need_certificates(&self) -> bool {
        self.rules.iter().flatten().any(|rule| rule.certificate != CertificateCheck::None)
    }

    /// Returns true if a rule names a database.
    pub fn name_database(&self, name: &str) -> bool {
        self.rules.iter().flatten().filter_map(|rule| rule.databases.as_ref()).flatten().any(|known| known == name)
    }

    /// Returns how a client has to log in.
    ///
    /// # Errors
    /// [`Error::Host`] if it may not connect, [`Error::Certificate`] without the certificate that it needs.
    pub fn check(&self, client: Connecting) -> Result<Login, Error> {
        let Some(rules) = &self.rules else { return Ok(Login::Password) };
        let matching = rules.iter().find(|rule| rule.matches(client));
        let reason = match matching {
            Some(Rule { method: Method::Reject, .. }) => "host rules reject connection for",
            Some(rule) => return rule.log_in(client),
            None => "no host rule for",
        };
        let encryption = if client.is_encrypted { "SSL encryption" } else { "no encryption" };
        Err(Error::Host(format!(
            "{reason} host \"{}\", user \"{}\", database \"{}\", {encryption}",
            client.address.to_canonical(),
            client.user,
            client.database
        )))
    }
}

impl Rule {
    fn parse(words: &[Word]) -> Result<Self, String> {
        let encryption = match words[0].text.as_str() {
            "host" => Encryption::Either,
            "hostssl" => Encryption::Needed,
            "hostnossl" => Encryption::Refused,
            other => return Err(format!("\"{other}\" is not host, hostssl or hostnossl")),
        };
        let options = words.iter().rev().take_while(|word| !word.is_quoted && word.text.contains('=')).count();
        let (words, options) = words.split_at(words.len() - options);
        // An address may be followed by a mask.
        let (databases, users, address, mask, method) = match words {
            [_, databases, users, address, method] => (databases, users, address, None, method),
            [_, databases, users, address, mask, method] => (databases, users, address, Some(mask), method),
            _ => return Err("expected host DATABASE USER ADDRESS METHOD".into()),
        };
        let method = match method.text.as_str() {
            "scram-sha-256" => Method::Password,
            "cert" => Method::Certificate,
            "reject" => Method::Reject,
            other => return Err(format!("method \"{other}\" is not supported; use scram-sha-256, cert or reject")),
        };
        let certificate = CertificateCheck::parse(method, options)?;
        if certificate != CertificateCheck::None && encryption != Encryption::Needed {
            return Err("certificates of clients need hostssl".into());
        }
        let addresses = match (address.text.as_str(), mask) {
            ("all", None) => None,
            (address, None) => Some(network(address)?),
            (address, Some(mask)) => {
                let wrong = || format!("{address} {} is not an address and a mask", mask.text);
                let parsed = address.parse().ok().zip(mask.text.parse().ok());
                let (address, mask): (IpAddr, IpAddr) = parsed.ok_or_else(wrong)?;
                Some(IpNet::with_netmask(address, mask).map_err(|_| wrong())?)
            }
        };
        Ok(Self { encryption, databases: databases.names()?, users: users.names()?, addresses, method, certificate })
    }

    /// Checks the certificate of a client.
    fn log_in(&self, client: Connecting) -> Result<Login, Error> {
        let is_named = || client.certificate.and_then(|shown| shown.common_name.as_deref()) == Some(client.user);
        match self.certificate {
            CertificateCheck::None => {}
            _ if client.certificate.is_none() => {
                return Err(Error::Certificate("connection requires a valid client certificate".into()));
            }
            CertificateCheck::Named if !is_named() => {
                let message = format!("certificate authentication failed for user \"{}\"", client.user);
                return Err(Error::Certificate(message));
            }
            CertificateCheck::Given | CertificateCheck::Named => {}
        }
        Ok(if self.method == Method::Certificate { Login::Certificate } else { Login::Password })
    }

    fn matches(&self, client: Connecting) -> bool {
        let named = |names: &Option<Vec<String>>, name: &str| {
            names.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
        };
        let address = client.address.to_canonical();
        let is_encryption = match self.encryption {
            Encryption::Either => true,
            Encryption::Needed => client.is_encrypted,
            Encryption::Refused => !client.is_encrypted,
        };
        is_encryption
            && named(&self.databases, client.database)
            && named(&self.users, client.user)
            && self.addresses.is_none_or(|network| network.contains(&address))
    }
}

impl CertificateCheck {
    /// Reads the options of a rule.
    fn parse(method: Method, options: &[Word]) -> Result<Self, String> {
        let mut check = if method == Method::Certificate { Self::Named } else { Self::None };
        for option in options {
            check = match (option.text.as_str(), method) {
                ("clientcert=verify-full", Method::Password | Method::Certificate) => Self::Named,
                ("clientcert=verify-ca", Method::Password) => Self::Given,
                ("clientcert=verify-ca", Method::Certificate) => {
                    return Err("the method cert checks names, too: clientcert=verify-full".into());
                }
                (other, _) => {
                    let known = "clientcert=verify-ca or clientcert=verify-full, of rules that do not reject";
                    return Err(format!("\"{other}\" is not supported; use {known}"));
                }
            };
        }
        Ok(check)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("\"{text}\" is not all or a network such as 10.0.0.0/8");
    let network = IpNet::from_str(text).or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    let network = network.map_err(|_| wrong())?;
    match network.trunc() == network {
        true => Ok(network),
        false => Err(format!("{text} has bits after its prefix; the network is {}", network.trunc())),
    }
}

/// A word of a line.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    text: String,
    is_quoted: bool,
}

impl Word {
    /// Returns the names of a list, `None` for all.
    fn names(&self) -> Result<Option<Vec<String>>, String> {
        if self.is_quoted {
            return Ok(Some(vec![self.text.clone()]));
        }
        let names: Vec<_> = self.text.split(',').map(str::to_owned).collect();
        if let Some(other) = names.iter().find(|name| name.is_empty() || name.starts_with(['+', '@', '/'])) {
            return Err(format!("\"{other}\" is not supported; write names or all"));
        }
        Ok((!names.iter().any(|name| name == "all")).then_some(names))
    }
}

/// Splits a line into words; a word in quotes keeps its spaces, commas and meaning.
fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (text, is_quoted, after) = match rest.strip_prefix('"') {
            Some(inner) => {
                let end = inner.find('"').ok_or("a quote has no end")?;
                (&inner[..end], true, &inner[end + 1..])
            }
            None => {
                let end = rest.find(|letter: char| letter.is_whitespace() || letter == '#').unwrap_or(rest.len());
                (&rest[..end], false, &rest[end..])
            }
        };
        if text.contains('"')
            || !(after.is_empty() || after.starts_with(|letter: char| letter.is_whitespace() || letter == '#'))
        {
            return Err("quotes surround whole words".into());
        }
        words.push(Word { text: text.to_owned(), is_quoted });
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = HostRules::parse(
            "# the lab\n\
             host all eve all reject\n\
             hostssl all ann,bob 10.0.0.0/8 scram-sha-256 # at work\n\
             host \"all\" all 127.0.0.1 scram-sha-256\n\
             host lab all 192.168.0.0 255.255.0.0 scram-sha-256\n\
             host all all ::1/128 scram-sha-256\n\
             hostnossl all all fd00::/8 scram-sha-256\n",
        )
        .unwrap();
        let check = |user, database, address: &str, is_encrypted| {
            rules
                .check(Connecting {
                    user,
                    database,
                    address: address.parse().unwrap(),
                    is_encrypted,
                    certificate: None,
                })
                .map_err(|e| e.to_string())
        };
        for (user, database, address, is_encrypted) in [
            ("ann", "x", "10.1.2.3", true),
            ("bob", "x", "::ffff:10.1.2.3", true),
            ("any", "all", "127.0.0.1", false),
            ("any", "lab", "192.168.7.7", false),
            ("any", "x", "::1", true),
            ("any", "x", "fd00::7", false),
        ] {
            assert_eq!(check(user, database, address, is_encrypted), Ok(Login::Password), "{user} {address}");
        }
        for (user, database, address, is_encrypted) in [
            ("eve", "all", "127.0.0.1", true),
            ("ann", "x", "10.1.2.3", false),
            ("cat", "x", "10.1.2.3", true),
            ("any", "x", "127.0.0.1", false),
            ("any", "lab", "192.169.7.7", true),
            ("any", "x", "fd00::7", true),
            ("any", "x", "8.8.8.8", true),
        ] {
            assert!(check(user, database, address, is_encrypted).is_err(), "{user} {address}");
        }
        assert_eq!(
            check("cat", "x", "::ffff:10.1.2.3", false),
            Err("no host rule for host \"10.1.2.3\", user \"cat\", database \"x\", no encryption".into())
        );
        assert!(check("eve", "x", "::1", true).unwrap_err().starts_with("host rules reject"));
        assert!(
            HostRules::default()
                .check(Connecting {
                    user: "a",
                    database: "b",
                    address: "8.8.8.8".parse().unwrap(),
                    is_encrypted: false,
                    certificate: None,
                })
                .is_ok()
        );
        assert!(
            HostRules::parse("")
                .unwrap()
                .check(Connecting {
                    user: "a",
                    database: "b",
                    address: "::1".parse().unwrap(),
                    is_encrypted: true,
                    certificate: None,
                })
                .is_err()
        );
    }

    #[test]
    fn certificates_are_asked_for() {
        let rules = HostRules::parse(
            "hostssl all ann all cert\n\
             hostssl all bob all scram-sha-256 clientcert=verify-full\n\
             hostssl all cat 10.0.0.0 255.0.0.0 scram-sha-256 clientcert=verify-ca\n\
             host all dan all scram-sha-256\n",
        )
        .unwrap();
        assert!(rules.need_certificates());
        assert!(!HostRules::default().need_certificates());
        assert!(!HostRules::parse("host all all all scram-sha-256").unwrap().need_certificates());
        let check = |user, name: Option<&str>| {
            let certificate = name.map(|name| ClientCertificate {
                common_name: Some(name).filter(|name| !name.is_empty()).map(str::to_owned),
            });
            let address = "10.0.0.1".parse().unwrap();
            let client =
                Connecting { user, database: "x", address, is_encrypted: true, certificate: certificate.as_ref() };
            rules.check(client).map_err(|error| error.to_string())
        };
        assert_eq!(check("ann", Some("ann")), Ok(Login::Certificate));
        assert_eq!(check("bob", Some("bob")), Ok(Login::Password));
        assert_eq!(check("cat", Some("ann")), Ok(Login::Password));
        assert_eq!(check("cat", Some("")), Ok(Login::Password));
        assert_eq!(check("dan", None), Ok(Login::Password));
        for user in ["ann", "bob", "cat"] {
            assert_eq!(check(user, None), Err("connection requires a valid client certificate".into()), "{user}");
        }
        for (user, name) in [("ann", "bob"), ("ann", ""), ("bob", "ann"), ("ann", "Ann")] {
            let expected = format!("certificate authentication failed for user \"{user}\"");
            assert_eq!(check(user, Some(name)), Err(expected), "{user} {name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, reason) in [
            ("local all all scram-sha-256", "\"local\" is not host"),
            ("host all all", "expected host DATABASE"),
            ("host all all all trust", "\"trust\" is not supported"),
            ("host all all all md5", "\"md5\" is not supported"),
            ("host all all all cert", "need hostssl"),
            ("hostnossl all all all scram-sha-256 clientcert=verify-ca", "need hostssl"),
            ("hostssl all all all cert clientcert=verify-ca", "clientcert=verify-full"),
            ("hostssl all all all reject clientcert=verify-ca", "rules that do not reject"),
            ("hostssl all all all scram-sha-256 clientcert=no", "\"clientcert=no\" is not supported"),
            ("hostssl all all all cert map=lab", "\"map=lab\" is not supported"),
            ("host all all 10.0.0.1/8 reject", "the network is 10.0.0.0/8"),
            ("host all all lab.example reject", "is not all or a network"),
            ("host all all 10.0.0.0/40 reject", "is not all or a network"),
            ("host all all 10.0.0.0 255.0.255.0 reject", "an address and a mask"),
            ("host all +staff all reject", "\"+staff\" is not supported"),
            ("host all a,,b all reject", "\"\" is not supported"),
            ("host all \"a all reject", "no end"),
            ("host all a\"b\" all reject", "whole words"),
        ] {
            let error = HostRules::parse(&format!("\n{line}")).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(reason), "{line}: {error}");
        }
    }
}
