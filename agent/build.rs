//! For machines without a trust store: of Mozilla's certification authorities those that Google's own services have their
//! certificates from (<https://pki.goog/faq/#connecting-to-google>). All of them would be a thirtieth of the binary.

use std::{env, fmt::Write, fs, path::Path};

const ISSUERS: [&str; 2] = ["Google Trust Services", "GlobalSign"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut list = String::from("[\n");
    for root in webpki_roots::TLS_SERVER_ROOTS {
        let subject = String::from_utf8_lossy(&root.subject);
        if root.name_constraints.is_none() && ISSUERS.iter().any(|issuer| subject.contains(issuer)) {
            let (subject, spki): (&[u8], &[u8]) = (&root.subject, &root.subject_public_key_info);
            writeln!(
                list,
                "TrustAnchor {{ subject: Der::from_slice(&{subject:?}), subject_public_key_info: Der::from_slice(&{spki:?}), \
                 name_constraints: None }},"
            )
            .expect("a string takes it");
        }
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("google_roots.rs"), list + "]\n").expect("the directory is there");
}
