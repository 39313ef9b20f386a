//! Configuration files: TOML with the keys of [`Options`], or the JSON of another balancer.

use std::path::Path;

use super::{ConfigError, Options, json};

/// The content of a file.
#[derive(Debug, Default)]
pub struct FromFile {
    /// The settings of the file.
    pub options: Options,
    /// Sentences on keys that are not used.
    pub warnings: Vec<String>,
}

impl FromFile {
    /// Reads a file: JSON where its name ends in `.json` or its text begins with `{`, else TOML.
    ///
    /// # Errors
    /// One line that names the file, and the key or the line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display();
        let wrong = |why: String| ConfigError { key: "config", why: format!("'{name}'{why}") };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(format!(": {error}")))?;
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        if is_json || text.trim_start().starts_with('{') {
            let (options, unused) = json::read(text).map_err(|why| wrong(format!(": {why}")))?;
            let unused = unused.join(", ");
            let warning = format!("'{name}': what it says of {unused} is not used");
            let warnings = if unused.is_empty() { Vec::new() } else { vec![warning] };
            return Ok(Self { options, warnings });
        }
        let options = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            wrong(format!(", line {line}: {}", error.message()))
        })?;
        Ok(Self { options, warnings: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<FromFile, ConfigError> {
        let own = format!("ringmaster-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(own);
        std::fs::write(&path, text).unwrap();
        let read = FromFile::read(&path);
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = read("unknown.toml", "port = 1\nprot = 2\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("`prot`"), "{error}");
    }

    #[test]
    fn the_format_follows_from_the_name_or_the_text() {
        let preset = |name, text| read(name, text).unwrap().options.preset;
        assert_eq!(preset("kind.toml", "port = 1"), None);
        let servers = Some("servers".to_owned());
        assert_eq!(preset("kind.conf", " \n{}"), servers);
        assert_eq!(preset("kind.json", "\u{feff}{}"), servers);
        let error = read("not.json", "port = 1").unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn unused_keys_are_named_in_one_sentence() {
        let text = r#"{"api": {"debug": true}, "retries": 3}"#;
        let [warning] = &read("unused.json", text).unwrap().warnings[..] else { panic!() };
        assert!(
            warning.ends_with(": what it says of `api.debug`, `retries` is not used"),
            "{warning}"
        );
    }
}
