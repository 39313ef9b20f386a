//! Ring settings as people write them: by name, each optional.

use super::{Algorithm, Collision, HashFunction, HashKey, Placement, RingSettings};

/// Settings by name; what is missing stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingOptions {
    /// See [`Algorithm`].
    pub algorithm: Option<String>,
    /// M.
    pub slots: Option<u32>,
    /// K.
    pub virtual_servers: Option<u32>,
    /// See [`Placement`].
    pub placement: Option<String>,
    /// See [`Collision`].
    pub collision: Option<String>,
    /// See [`HashFunction`].
    pub hash: Option<String>,
    /// The secret of `siphash`, 32 hexadecimal digits.
    pub hash_key: Option<String>,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {why}")]
pub struct OptionError {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl RingOptions {
    /// The options that describe settings completely, the secret included.
    pub fn of(settings: &RingSettings) -> Self {
        Self {
            algorithm: Some(settings.algorithm.name().to_owned()),
            slots: Some(settings.slots),
            virtual_servers: Some(settings.virtual_servers),
            placement: Some(settings.placement.name().to_owned()),
            collision: Some(settings.collision.name().to_owned()),
            hash: Some(settings.hash.name().to_owned()),
            hash_key: match settings.hash {
                HashFunction::Siphash(key) => Some(key.to_hex()),
                _ => None,
            },
        }
    }

    /// Other settings with these options on top. A placement brings its own hash function along
    /// where none is named: the polynomials belong together.
    ///
    /// # Errors
    /// The first option that cannot be used, with the allowed values.
    pub fn on(&self, base: &RingSettings) -> Result<RingSettings, OptionError> {
        let algorithm = named(
            "algorithm",
            &self.algorithm,
            Algorithm::from_name,
            &Algorithm::ALL.map(Algorithm::name),
        )?;
        let placement = named(
            "placement",
            &self.placement,
            Placement::from_name,
            &Placement::ALL.map(Placement::name),
        )?;
        let collision = named(
            "collision",
            &self.collision,
            Collision::from_name,
            &Collision::ALL.map(Collision::name),
        )?;
        let settings = RingSettings {
            algorithm: algorithm.unwrap_or(base.algorithm),
            slots: self.slots.unwrap_or(base.slots),
            virtual_servers: self.virtual_servers.unwrap_or(base.virtual_servers),
            placement: placement.unwrap_or(base.placement),
            collision: collision.unwrap_or(base.collision),
            hash: self.hash_function(base, placement)?,
        };
        let key = if self.virtual_servers.is_some() { "virtual_servers" } else { "slots" };
        match settings.check() {
            Ok(()) => Ok(settings),
            Err(error) => Err(OptionError { key, why: error.to_string() }),
        }
    }

    fn hash_function(
        &self,
        base: &RingSettings,
        placement: Option<Placement>,
    ) -> Result<HashFunction, OptionError> {
        let key = match self.hash_key.as_deref().map(HashKey::from_hex) {
            None => None,
            Some(Some(key)) => Some(key),
            // The text is a secret, so it is not repeated.
            Some(None) => return wrong("hash_key", "must be 32 hexadecimal digits"),
        };
        let present = match base.hash {
            HashFunction::Siphash(present) => Some(present),
            _ => None,
        };
        let function = match (self.hash.as_deref(), placement) {
            (Some(name), _) => {
                let allowed = &HashFunction::NAMES;
                let known = |name: &str| HashFunction::from_name(name, key.or(present));
                if name == "siphash" && key.or(present).is_none() {
                    return wrong(
                        "hash_key",
                        "the hash siphash needs a key of 32 hexadecimal digits",
                    );
                }
                named("hash", &self.hash, known, allowed)?.unwrap_or(base.hash)
            }
            (None, Some(Placement::Polynomial)) => HashFunction::Polynomial,
            (None, Some(_)) if base.hash == HashFunction::Polynomial => HashFunction::Xxh3,
            (None, _) => match (key, present) {
                (Some(key), Some(_)) => HashFunction::Siphash(key),
                _ => base.hash,
            },
        };
        match (key, function) {
            (Some(_), HashFunction::Siphash(_)) | (None, _) => Ok(function),
            _ => wrong("hash_key", "only the hash siphash takes a key"),
        }
    }
}

fn wrong<T>(key: &'static str, why: &str) -> Result<T, OptionError> {
    Err(OptionError { key, why: why.to_owned() })
}

fn named<T>(
    key: &'static str,
    name: &Option<String>,
    from_name: impl Fn(&str) -> Option<T>,
    allowed: &[&str],
) -> Result<Option<T>, OptionError> {
    let Some(name) = name else { return Ok(None) };
    match from_name(name) {
        Some(value) => Ok(Some(value)),
        None => {
            let shown: String = name.chars().take(80).collect();
            let why = format!("'{shown}' is not one of {}", allowed.join(", "));
            Err(OptionError { key, why })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_default(change: impl FnOnce(&mut RingOptions)) -> Result<RingSettings, String> {
        let mut options = RingOptions::default();
        change(&mut options);
        options.on(&RingSettings::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_describe_themselves_completely() {
        let key = HashKey::from_hex(&"4d".repeat(16)).unwrap();
        let settings = RingSettings {
            algorithm: Algorithm::Slots,
            slots: 4_096,
            virtual_servers: 3,
            placement: Placement::Hash,
            collision: Collision::Quadratic,
            hash: HashFunction::Siphash(key),
        };
        assert_eq!(RingOptions::of(&settings).on(&RingSettings::default()), Ok(settings));
        assert_eq!(
            RingOptions::default().on(&RingSettings::default()),
            Ok(RingSettings::default())
        );
    }

    #[test]
    fn the_polynomials_belong_together() {
        let both = on_default(|o| o.placement = Some("polynomial".into())).unwrap();
        assert_eq!(both.hash, HashFunction::Polynomial);
        let back = RingOptions { placement: Some("even".into()), ..RingOptions::default() };
        assert_eq!(back.on(&both).unwrap(), RingSettings::default());
        let mixed = on_default(|o| {
            o.placement = Some("polynomial".into());
            o.hash = Some("md5".into());
        });
        assert_eq!(mixed.unwrap().hash, HashFunction::Md5);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_can() {
        let refused = |change: fn(&mut RingOptions)| on_default(change).unwrap_err();
        let text = refused(|o| o.algorithm = Some("hrw".into()));
        assert_eq!(
            text,
            "`algorithm`: 'hrw' is not one of ring, slots, ketama, maglev, rendezvous, jump"
        );
        assert!(refused(|o| o.hash = Some("sha3".into())).contains("xxh3, murmur3, fnv1a"));
        assert!(refused(|o| o.placement = Some("odd".into())).contains("even, hash, polynomial"));
        assert!(refused(|o| o.collision = Some("x".into())).contains("linear, quadratic"));
        assert!(refused(|o| o.hash = Some("siphash".into())).contains("needs a key"));
        assert!(refused(|o| o.hash_key = Some("0".repeat(32))).contains("only the hash siphash"));
        assert!(refused(|o| o.hash_key = Some("secret".into())).contains("32 hexadecimal"));
        assert!(!refused(|o| o.hash_key = Some("secret".into())).contains("secret"));
        assert!(refused(|o| o.slots = Some(0)).contains("`slots`"));
        assert!(refused(|o| o.virtual_servers = Some(513)).contains("raise `slots`"));
    }
}
