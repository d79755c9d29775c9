//! Certificates made for one run: an authority, and what it says of servers and clients.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

const DAYS: u32 = 2;
/// X.509 version 3 counts from 0.
const VERSION_3: i32 = 2;

/// A certificate authority whose own certificate is a file.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
    folder: PathBuf,
    name: String,
}

/// Files of one who can prove a name.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM without a password.
    pub key: PathBuf,
    /// Key and certificate in one file, as Kafka's PEM keystores have it.
    pub both: PathBuf,
}

impl Authority {
    /// Makes one and writes its certificate into the folder.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let key = new_key()?;
        let mut builder = builder(name, name, &key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let authority = Self { key, certificate: builder.build(), folder: folder.to_owned(), name: name.to_owned() };
        fs::write(authority.file(), authority.certificate.to_pem()?)?;
        Ok(authority)
    }

    /// The authority's own certificate, PEM.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate for this common name, good for servers at `hosts` and for clients.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<Identity> {
        let key = new_key()?;
        let mut builder = builder(name, &self.name, &key)?;
        if !hosts.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for host in hosts {
                names.dns(host);
            }
            let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(names)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        let (certificate, key) = (builder.build().to_pem()?, key.private_key_to_pem_pkcs8()?);
        let file = |ending: &str| self.folder.join(format!("{}-{name}.{ending}", self.name));
        let identity = Identity { certificate: file("crt"), key: file("key"), both: file("pem") };
        fs::write(&identity.certificate, &certificate)?;
        fs::write(&identity.key, &key)?;
        fs::write(&identity.both, [key, certificate].concat())?;
        Ok(identity)
    }
}

fn new_key() -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

fn builder(subject: &str, issuer: &str, key: &PKey<Private>) -> Result<X509Builder> {
    let name = |text: &str| -> Result<_> {
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_nid(Nid::COMMONNAME, text)?;
        Ok(name.build())
    };
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(VERSION_3)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&*name(subject)?)?;
    builder.set_issuer_name(&*name(issuer)?)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}
