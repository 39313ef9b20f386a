//! What an engine asks of the names of replicas, beyond what any hostname must be.

use super::ids::ReplicaName;

/// Which names users may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// Any hostname.
    Hostname,
    /// What a container of Docker may be called, and no network alias that we give.
    Docker,
}

impl NameRule {
    /// Checks a name.
    ///
    /// # Errors
    /// Why a replica cannot bear it, in a sentence.
    pub fn check(self, name: &ReplicaName) -> Result<(), String> {
        if self == Self::Hostname {
            return Ok(());
        }
        if name.as_str().len() < 2 {
            return Err(format!(
                "'{name}' is too short: Docker's rule for names is 2 to 63 letters, digits, '_', '.' or '-'"
            ));
        }
        if let Some(id) = aliased(name) {
            return Err(format!(
                "'{name}' is the network alias of the replica with the ring identity {id}: a request to it could reach either of the two"
            ));
        }
        Ok(())
    }
}

/// The ring identity whose container has this name as its second network alias, now or later.
fn aliased(name: &ReplicaName) -> Option<&str> {
    let (prefix, id) = name.as_str().split_at_checked("replica-".len())?;
    let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    (prefix.eq_ignore_ascii_case("replica-") && is_number).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rule: NameRule, name: &str) -> Option<String> {
        rule.check(&ReplicaName::new(name).unwrap()).err()
    }

    #[test]
    fn docker_asks_for_two_characters_and_keeps_our_aliases() {
        for (name, why) in [
            ("a", "Docker's rule for names is 2 to 63"),
            ("replica-1", "the network alias of the replica with the ring identity 1"),
            ("Replica-27", "ring identity 27"),
        ] {
            let said = refused(NameRule::Docker, name).unwrap();
            assert!(said.contains(why) && said.contains(name), "{said}");
            assert_eq!(refused(NameRule::Hostname, name), None);
        }
        for name in ["ab", "replica", "replica-", "replica-1a", "replica-a", "my-replica-1"] {
            assert_eq!(refused(NameRule::Docker, name), None, "{name}");
        }
    }
}
