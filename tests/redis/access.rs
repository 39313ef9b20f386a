//! How a process is let into its Redis: with a password, and by TLS.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
};

use crate::{
    harness::{Balancer, Home, eventually, get, skip},
    server::{RedisServer, is_required},
    shared::{Fleet, leads, owners, serves, status},
};

/// Why a process that only stands by does not get anything from the store.
fn refused(process: &Balancer) -> String {
    let mut said = String::new();
    eventually("it says that the store does not answer", || {
        let answer = get(process.admin, "/api/status");
        said = answer.text().to_owned();
        answer.status == 503 && said.contains("the store does not answer: ")
    });
    assert_eq!(get(process.admin, "/livez").status, 200);
    assert!(!leads(process));
    let logged = process.logged("WARN the store does not ").unwrap();
    format!("{logged}\n{said}")
}

#[test]
fn a_wrong_password_is_said_and_a_right_one_lets_in() {
    let Some(redis) = RedisServer::start_with(Some("s3cret")) else { return };
    let fleet = Fleet::with(redis, 2);
    let store = |access: &str| format!("redis://{access}{}", fleet.redis.address);
    let start = |process: &str, role: &str, access: &str| {
        Balancer::spawn(fleet.command(process, role, &store(access)))
    };
    let wrong = start("a", "supervisor", ":wr0ng@");
    let without = start("b", "supervisor", "");
    for (process, why) in [
        (&wrong, "the user or the password of `store` is wrong"),
        (&without, "NOAUTH Authentication required."),
    ] {
        let said = refused(process);
        assert_eq!(said.matches(why).count(), 2, "{said}");
        assert!(!said.contains("wr0ng") && !said.contains("s3cret"), "{said}");
    }
    let right = start("c", "both", ":s3cret@");
    eventually("it supervises", || leads(&right));
    serves(&right, 2);
    assert!(!right.log().contains("s3cret"), "{}", right.log());
    // From now on it is right too: what was refused is tried again.
    fleet.redis.command(&["ACL", "SETUSER", "default", ">wr0ng"]);
    eventually("it is let in", || status(&wrong).is_some());
    refused(&without);
}

/// Certificates of a test's own, made for it: `server.pem` with its key is for a server at 127.0.0.1,
/// `ca.pem` vouches for it, and `other.pem` for nothing.
struct Certificates<'a>(&'a Home);

impl<'a> Certificates<'a> {
    fn make(home: &'a Home) -> Self {
        let made = Self(home);
        for authority in ["ca", "other"] {
            made.request(authority, &[]);
        }
        let (ca, key) = (made.path("ca.pem"), made.path("ca.key"));
        let signed = ["-CA", ca.to_str().unwrap(), "-CAkey", key.to_str().unwrap()];
        let extensions = [
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        made.request("server", &[signed.as_slice(), &extensions].concat());
        made
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path(file)
    }

    /// A new key and a certificate of it, signed by itself unless the options say by whom.
    fn request(&self, name: &str, options: &[&str]) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-days", "2", "-subj", &format!("/CN={name}")])
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.pem")))
            .args(options)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// Has a server listen for TLS too, and says where.
fn with_tls(redis: &RedisServer, certificates: &Certificates<'_>) -> SocketAddr {
    let set = |key: &str, value: &str| {
        let answer = redis.command(&["CONFIG", "SET", key, value]);
        (answer.starts_with("+OK"), answer)
    };
    for (key, value) in [
        ("tls-auth-clients", "no"),
        ("tls-cert-file", certificates.path("server.pem").to_str().unwrap()),
        ("tls-key-file", certificates.path("server.key").to_str().unwrap()),
    ] {
        let (is_set, answer) = set(key, value);
        assert!(is_set, "{key}: {answer}");
    }
    // Another process may take the port between the two steps: then the next one is tried.
    for _ in 0..20 {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if set("tls-port", &address.port().to_string()).0 {
            return address;
        }
    }
    panic!("no port for TLS");
}

#[test]
fn a_server_with_tls_is_believed_by_the_given_certificates_only() {
    let Some(fleet) = Fleet::new(2) else { return };
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(!is_required(), "openssl is not installed");
        return skip("openssl is not installed");
    }
    let certificates = Certificates::make(&fleet.home);
    let address = with_tls(&fleet.redis, &certificates);
    let command = |process: &str, role: &str, ca: Option<&str>| -> Command {
        let mut command = fleet.command(process, role, &format!("rediss://{address}"));
        if let Some(file) = ca {
            command.arg("--store-ca").arg(certificates.path(file));
        }
        command
    };
    let first = Balancer::spawn(command("a", "both", Some("ca.pem")));
    eventually("it supervises", || leads(&first));
    let second = Balancer::spawn(command("b", "balancer", Some("ca.pem")));
    for process in [&first, &second] {
        serves(process, 2);
    }
    assert_eq!(owners(&first), owners(&second));
    assert!(fleet.redis.command(&["EXISTS", &fleet.key("state")]).starts_with(":1"));
    // Neither the certificates of the system nor those of another one vouch for it.
    for (process, ca) in [("c", None), ("d", Some("other.pem"))] {
        let stranger = Balancer::spawn(command(process, "supervisor", ca));
        let said = refused(&stranger);
        assert_eq!(said.matches("certificate").count(), 2, "{said}");
    }
    // Nor is a server without TLS taken for one with it.
    let plain = format!("rediss://{}", fleet.redis.address);
    let mut command = fleet.command("e", "supervisor", &plain);
    command.arg("--store-ca").arg(certificates.path("ca.pem"));
    refused(&Balancer::spawn(command));
}
