//! Issues and checks link certificates, which bind a TLS key to a member of the federation.
//!
//! There is no certificate authority. A member generates a key in memory and a certificate self-signed with it. One
//! extension ties the certificate to genesis: a statement, signed with the member's genesis key, that the TLS key
//! belongs to the member:
//!
//! ```text
//!   genesis ─ lists ─► the member's key ─ signs ─► (federation, member, TLS key, from, until)
//!                                                               │ in an extension of
//!                                   TLS key ─ signs ─► certificate ─ and proves possession in the handshake
//! ```
//!
//! So a certificate is replaced without any coordination, and a stolen TLS key is useful for days, not for ever. The
//! key of an authority would be one more secret that can speak for every member, and genesis already lists the members.
//!
//! The content of a certificate is untrusted input: its size is bounded before it is parsed, `x509-parser` parses it,
//! and only the extension, the key and the two times are used. The subject is for humans only.

use std::fmt;
use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, PKCS_ED25519};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_SIG_ED25519, Oid};
use x509_parser::prelude::{ASN1Time, FromDer as _};

use crate::clock::WallTime;
use crate::id::NodeId;

/// Maximum size of a certificate, in bytes. One that a member makes has about 400.
pub const CERTIFICATE_BYTES_MAX: usize = 2_048;
/// Maximum size of a member's signature, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 128;
/// Maximum lifetime of a certificate, from its creation.
pub const LIFETIME_MAX: Duration = Duration::from_hours(90 * 24);
/// How far a certificate's start is backdated, so that peers whose clock is a day behind accept it.
pub const BACKDATED: Duration = Duration::from_hours(2 * 24);

/// Object identifier of the extension. Arcs below 2.25 need no registration.
const OID: &[u64] = &[2, 25, 6_413_917_502_289_731_045, 1];
/// Version of the extension that this code writes and reads.
const VERSION: u8 = 1;
/// Domain separation prefix of the signed statement.
const DOMAIN: &[u8] = b"alys/link-certificate/1";

/// Signs statements with this member's genesis key, and verifies those of other members.
///
/// It is separate from [`Signer`](crate::port::Signer), so that the key handle that signs health attestations can not
/// be passed where links are certified.
pub trait CertificateSigner: Send + Sync + 'static {
    /// Signs `statement` with this member's key.
    fn sign(&self, statement: &[u8]) -> Vec<u8>;
    /// Whether `signature` is `member`'s over `statement`. May take a millisecond.
    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool;
}

/// Whole seconds since the Unix epoch, as used in certificates; displayed as a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub i64);

impl From<WallTime> for Seconds {
    fn from(time: WallTime) -> Self {
        Self((time.0 / 1_000) as i64)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(time) = ASN1Time::from_timestamp(self.0) else {
            return write!(f, "{} s", self.0);
        };
        let at = time.to_datetime();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
    }
}

/// Identifier of a federation; displays as its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FederationId(pub [u8; 32]);

impl fmt::Display for FederationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// Why a certificate is refused or can not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The certificate exceeds the size limit and is not parsed.
    #[error("the certificate has {0} bytes; expected at most {CERTIFICATE_BYTES_MAX}")]
    Oversize(usize),
    /// The text holds no certificate in PEM.
    #[error("the text holds no certificate in PEM: {0}")]
    Pem(String),
    /// The certificate is not valid X.509.
    #[error("the certificate is no X.509: {0}")]
    NotX509(String),
    /// Bytes follow the certificate.
    #[error("{0} bytes follow the certificate; expected none")]
    Trailing(usize),
    /// The certificate has a critical extension.
    #[error("the certificate has the critical extension {0}; expected none")]
    Critical(String),
    /// The extension that names the member occurs never or more than once.
    #[error("the certificate names a member {0} times; expected once")]
    Extensions(usize),
    /// The extension is malformed.
    #[error("the certificate's extension has {field} {value}; expected {expected}")]
    Extension {
        /// Field that is malformed.
        field: &'static str,
        /// Value of the field.
        value: String,
        /// Value that would be accepted.
        expected: &'static str,
    },
    /// The certificate uses another algorithm than Ed25519.
    #[error("the certificate's {what} is of the algorithm {found}; expected Ed25519")]
    Algorithm {
        /// Whether the key or the signature uses it.
        what: &'static str,
        /// Object identifier of the algorithm.
        found: String,
    },
    /// The certificate is signed with another key than its own.
    #[error("the certificate is not signed with its own key")]
    NotSelfSigned,
    /// The certificate belongs to another federation.
    #[error("the certificate is of the federation {found}; expected {expected}")]
    OtherFederation {
        /// Federation named in the certificate.
        found: FederationId,
        /// This member's federation.
        expected: FederationId,
    },
    /// The named member is not in genesis.
    #[error("the certificate names {0}, which is no member of this federation")]
    Stranger(NodeId),
    /// The certificate names this member itself.
    #[error("the certificate names {0}, which is this member itself")]
    Own(NodeId),
    /// The certificate names another member than the dialled one.
    #[error("the certificate names {found}; expected {dialled}, which was dialled")]
    OtherMember {
        /// Member named in the certificate.
        found: NodeId,
        /// Member that was dialled.
        dialled: NodeId,
    },
    /// The validity period exceeds the maximum.
    #[error(
        "the certificate holds from {not_before} until {not_after}; expected at most {most} days",
        most = (LIFETIME_MAX + BACKDATED).as_secs() / 86_400
    )]
    TooLong {
        /// Start of the validity period.
        not_before: Seconds,
        /// End of the validity period.
        not_after: Seconds,
    },
    /// The validity period has not started.
    #[error("the certificate holds from {not_before}; it is {now}: one of the two clocks is wrong")]
    NotYetValid {
        /// Start of the validity period.
        not_before: Seconds,
        /// Current time of this member.
        now: Seconds,
    },
    /// The validity period is over.
    #[error("the certificate held until {not_after}; it is {now}")]
    Expired {
        /// End of the validity period.
        not_after: Seconds,
        /// Current time of this member.
        now: Seconds,
    },
    /// The signature in the extension is not the member's over this key and these times.
    #[error("the signature in the certificate is not that of {0} over this key and these times")]
    Forged(NodeId),
    /// The peer presented no certificate, or more than one.
    #[error("the peer presents {0} certificates; expected 1")]
    Chain(usize),
    /// The certificate can not be made.
    #[error("no certificate can be made: {0}")]
    Making(String),
}

/// Encodes the statement that a member signs about its TLS key: fields in order, variable ones prefixed by their
/// length.
fn statement(
    federation: &FederationId,
    member: &NodeId,
    key: &[u8],
    from: Seconds,
    until: Seconds,
) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend(federation.0);
    for part in [member.as_str().as_bytes(), key] {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    bytes.extend(from.0.to_be_bytes());
    bytes.extend(until.0.to_be_bytes());
    bytes
}

/// Content of a parsed certificate. Only its self-signature has been verified, not the member's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Member named in the certificate.
    pub member: NodeId,
    /// Federation named in the certificate.
    pub federation: FederationId,
    /// Start of the validity period.
    pub not_before: Seconds,
    /// End of the validity period.
    pub not_after: Seconds,
    key: Vec<u8>,
    signature: Vec<u8>,
}

impl Claim {
    /// Parses a certificate in DER: exactly one X.509 certificate, self-signed with its Ed25519 key, with one extension
    /// that names a member. Takes about a tenth of a millisecond.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(IdentityError::Oversize(der.len()));
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| IdentityError::NotX509(error.to_string()))?;
        if !rest.is_empty() {
            return Err(IdentityError::Trailing(rest.len()));
        }
        let oid = oid();
        let naming: Vec<_> =
            certificate.extensions().iter().filter(|extension| extension.oid == oid).collect();
        let [extension] = naming[..] else {
            return Err(IdentityError::Extensions(naming.len()));
        };
        if let Some(extension) = certificate.extensions().iter().find(|extension| extension.critical) {
            return Err(IdentityError::Critical(extension.oid.to_string()));
        }
        let (federation, member, signature) = read_extension(extension.value)?;
        for (what, found) in [
            ("key", &certificate.public_key().algorithm.algorithm),
            ("signature", &certificate.signature_algorithm.algorithm),
        ] {
            if *found != OID_SIG_ED25519 {
                return Err(IdentityError::Algorithm { what, found: found.to_string() });
            }
        }
        certificate.verify_signature(None).map_err(|_| IdentityError::NotSelfSigned)?;
        Ok(Self {
            member,
            federation,
            not_before: Seconds(certificate.validity().not_before.timestamp()),
            not_after: Seconds(certificate.validity().not_after.timestamp()),
            key: certificate.public_key().raw.to_vec(),
            signature,
        })
    }

    /// Checks the federation, the member and the validity period.
    pub fn compare(
        &self,
        federation: &FederationId,
        members: &[NodeId],
        now: WallTime,
    ) -> Result<(), IdentityError> {
        let (found, expected) = (self.federation, *federation);
        if found != expected {
            return Err(IdentityError::OtherFederation { found, expected });
        }
        if !members.contains(&self.member) {
            return Err(IdentityError::Stranger(self.member.clone()));
        }
        let (not_before, not_after, now) = (self.not_before, self.not_after, Seconds::from(now));
        let most = (LIFETIME_MAX + BACKDATED).as_secs() as i64;
        if not_after.0.saturating_sub(not_before.0) > most {
            return Err(IdentityError::TooLong { not_before, not_after });
        }
        if now < not_before {
            return Err(IdentityError::NotYetValid { not_before, now });
        }
        if now >= not_after {
            return Err(IdentityError::Expired { not_after, now });
        }
        Ok(())
    }

    /// Verifies the member's signature with `signer`. Takes about a millisecond.
    pub fn prove(&self, signer: &dyn CertificateSigner) -> Result<(), IdentityError> {
        let statement = statement(&self.federation, &self.member, &self.key, self.not_before, self.not_after);
        if signer.verify(&self.member, &statement, &self.signature) {
            Ok(())
        } else {
            Err(IdentityError::Forged(self.member.clone()))
        }
    }
}

/// Checks a certificate in DER and returns its member. The presenter must also prove that it has the certificate's key.
pub fn check(
    der: &[u8],
    federation: &FederationId,
    members: &[NodeId],
    signer: &dyn CertificateSigner,
    now: WallTime,
) -> Result<NodeId, IdentityError> {
    let claim = Claim::read(der)?;
    claim.compare(federation, members, now)?;
    claim.prove(signer)?;
    Ok(claim.member)
}

/// Returns the first certificate in a PEM text, as DER.
pub fn from_pem(text: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let certificate = CertificateDer::from_pem_slice(text);
    certificate.map(|der| der.to_vec()).map_err(|error| IdentityError::Pem(format!("{error:?}")))
}

fn oid() -> Oid<'static> {
    Oid::from(OID).expect("the numbers of the extension are those of an object identifier")
}

fn read_extension(bytes: &[u8]) -> Result<(FederationId, NodeId, Vec<u8>), IdentityError> {
    let refuse = |field, value: String, expected| IdentityError::Extension { field, value, expected };
    let short = || refuse("length", bytes.len().to_string(), "a federation, a name and a signature");
    let (version, rest) = bytes.split_first().ok_or_else(short)?;
    if *version != VERSION {
        return Err(refuse("version", version.to_string(), "1"));
    }
    let (federation, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    let (length, rest) = rest.split_first().ok_or_else(short)?;
    let (name, signature) = rest.split_at_checked(usize::from(*length)).ok_or_else(short)?;
    let shown = || String::from_utf8_lossy(name).into_owned();
    let text = std::str::from_utf8(name).ok();
    let name = text.and_then(|name| NodeId::new(name).ok());
    let name = name.ok_or_else(|| refuse("the name", format!("{:?}", shown()), "a member's name"))?;
    if signature.len() > SIGNATURE_BYTES_MAX {
        let found = format!("{} bytes long", signature.len());
        return Err(refuse("a signature", found, "at most 128 bytes"));
    }
    Ok((FederationId(*federation), name, signature.to_vec()))
}

/// A newly issued certificate with its key.
pub struct Issued {
    /// The certificate.
    pub certificate: rcgen::Certificate,
    /// Private key of the certificate, held by nobody else.
    pub key: KeyPair,
    /// Start of the validity period.
    pub not_before: Seconds,
    /// End of the validity period.
    pub not_after: Seconds,
}

/// Generates a key and a certificate for it, valid from [`BACKDATED`] before `now` until `lifetime` after it, in whole
/// seconds.
pub fn issue(
    member: &NodeId,
    federation: &FederationId,
    signer: &dyn CertificateSigner,
    lifetime: Duration,
    now: WallTime,
) -> Result<Issued, IdentityError> {
    let seconds = lifetime.as_secs() as i64;
    if seconds == 0 || lifetime > LIFETIME_MAX {
        let message = format!("the lifetime is {lifetime:?}; expected 1s to {LIFETIME_MAX:?}");
        return Err(IdentityError::Making(message));
    }
    let now = Seconds::from(now);
    let not_before = Seconds(now.0 - BACKDATED.as_secs() as i64);
    let not_after = Seconds(now.0.saturating_add(seconds));
    let making = |error: rcgen::Error| IdentityError::Making(error.to_string());
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(making)?;
    let signed = statement(federation, member, &subject_key(&key), not_before, not_after);
    let content = extension(federation, member, &signer.sign(&signed));
    let parts = Parts { name: member.as_str(), not_before, not_after, extensions: vec![content] };
    let certificate = parts.certificate(&key)?;
    Ok(Issued { certificate, key, not_before, not_after })
}

fn subject_key(key: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    key.subject_public_key_info()
}

fn extension(federation: &FederationId, member: &NodeId, signature: &[u8]) -> Vec<u8> {
    let name = member.as_str().as_bytes();
    [&[VERSION], &federation.0[..], &[name.len() as u8], name, signature].concat()
}

/// Content of a certificate to be made.
struct Parts<'a> {
    name: &'a str,
    not_before: Seconds,
    not_after: Seconds,
    extensions: Vec<Vec<u8>>,
}

impl Parts<'_> {
    fn certificate(self, key: &KeyPair) -> Result<rcgen::Certificate, IdentityError> {
        let time = |seconds: Seconds| {
            let time = ASN1Time::from_timestamp(seconds.0);
            time.map(|time| time.to_datetime()).map_err(|_| {
                IdentityError::Making(format!("{seconds} is no date that a certificate can hold"))
            })
        };
        let mut parameters = CertificateParams::default();
        parameters.not_before = time(self.not_before)?;
        parameters.not_after = time(self.not_after)?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, self.name);
        let extensions = self.extensions.into_iter();
        parameters.custom_extensions =
            extensions.map(|content| CustomExtension::from_oid_content(OID, content)).collect();
        parameters.self_signed(key).map_err(|error| IdentityError::Making(error.to_string()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{Issuer, PKCS_ECDSA_P256_SHA256};

    pub(in crate::transport) const HERE: FederationId = FederationId([7; 32]);
    const DAY: u64 = 86_400_000;
    const NOW: WallTime = WallTime(20_000 * DAY);
    const WEEK: Duration = Duration::from_hours(7 * 24);

    /// Signs by prefixing the member's name, so that only this member's signatures verify.
    pub(in crate::transport) struct NameVoucher(pub(in crate::transport) NodeId);

    fn seal(member: &NodeId, statement: &[u8]) -> Vec<u8> {
        let sum = statement.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        [member.as_str().as_bytes(), &sum.to_be_bytes()[..]].concat()
    }

    impl CertificateSigner for NameVoucher {
        fn sign(&self, statement: &[u8]) -> Vec<u8> {
            seal(&self.0, statement)
        }

        fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
            signature == seal(member, statement)
        }
    }

    pub(in crate::transport) fn node(n: usize) -> NodeId {
        NodeId::new(&format!("node-{n}")).expect("a name")
    }

    pub(in crate::transport) fn members() -> Vec<NodeId> {
        (1..=4).map(node).collect()
    }

    pub(in crate::transport) fn issued(n: usize, now: WallTime) -> Issued {
        issue(&node(n), &HERE, &NameVoucher(node(n)), WEEK, now).expect("made")
    }

    fn check_at(der: &[u8], now: WallTime) -> Result<NodeId, IdentityError> {
        check(der, &HERE, &members(), &NameVoucher(node(1)), now)
    }

    /// A certificate for node-2 that tests alter before it is signed.
    struct Sham {
        key: KeyPair,
        federation: FederationId,
        member: NodeId,
        not_before: Seconds,
        not_after: Seconds,
    }

    impl Sham {
        fn new() -> Self {
            let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
            let (not_before, not_after) = (Seconds(20_000 * 86_400), Seconds(20_001 * 86_400));
            Self { key, federation: HERE, member: node(2), not_before, not_after }
        }

        fn content(&self) -> Vec<u8> {
            let key = subject_key(&self.key);
            let signed = statement(&self.federation, &self.member, &key, self.not_before, self.not_after);
            extension(&self.federation, &self.member, &NameVoucher(node(2)).sign(&signed))
        }

        fn parts(&self, extensions: Vec<Vec<u8>>) -> Parts<'_> {
            let (not_before, not_after) = (self.not_before, self.not_after);
            Parts { name: self.member.as_str(), not_before, not_after, extensions }
        }

        fn der(&self, extensions: Vec<Vec<u8>>) -> Vec<u8> {
            self.parts(extensions).certificate(&self.key).expect("made").der().to_vec()
        }
    }

    pub(in crate::transport) fn forged(now: WallTime) -> Issued {
        issue(&node(2), &HERE, &NameVoucher(node(3)), WEEK, now).expect("made")
    }

    #[test]
    fn a_certificate_is_its_members_from_two_days_before_it_is_made_to_its_end() {
        let issued = issued(2, NOW);
        let der = issued.certificate.der();
        assert!(der.len() < CERTIFICATE_BYTES_MAX / 2, "{} bytes", der.len());
        // When half of the lifetime is over, and with a clock that is a day off in either direction.
        for ms in [NOW.0 - 2 * DAY, NOW.0 - DAY, NOW.0, NOW.0 + 9 * DAY / 2, NOW.0 + 7 * DAY - 1] {
            assert_eq!(check_at(der, WallTime(ms)), Ok(node(2)), "at {ms}");
        }
        let told = |ms| check_at(der, WallTime(ms)).expect_err("refused").to_string();
        assert_eq!(
            told(NOW.0 - 2 * DAY - 1),
            "the certificate holds from 2024-10-02T00:00:00Z; it is 2024-10-01T23:59:59Z: one of the two clocks is wrong"
        );
        assert_eq!(
            told(NOW.0 + 7 * DAY),
            "the certificate held until 2024-10-11T00:00:00Z; it is 2024-10-11T00:00:00Z"
        );
        assert_eq!(from_pem(issued.certificate.pem().as_bytes()).as_deref(), Ok(&der[..]));
        assert!(matches!(from_pem(b"nothing"), Err(IdentityError::Pem(_))));
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        let sham = Sham::new;
        let honest = sham().content();
        let cut = |length: usize| sham().der(vec![sham().content()[..length].to_vec()]);
        let changed = |change: fn(&mut Sham)| {
            let mut sham = sham();
            change(&mut sham);
            sham.der(vec![sham.content()])
        };
        let with = |at: usize, byte: u8| {
            let mut content = sham().content();
            content[at] = byte;
            sham().der(vec![content])
        };
        let long = [&honest[..], &[0; 129]].concat();
        let later = {
            let (before, mut sham) = (sham(), sham());
            sham.not_after = Seconds(20_050 * 86_400);
            sham.key = KeyPair::try_from(before.key.serialized_der()).expect("a key");
            sham.der(vec![before.content()])
        };
        let control = sham();
        let good = control.der(vec![control.content()]);
        assert_eq!(check_at(&good, NOW), Ok(node(2)), "nothing is wrong");
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", vec![], "the certificate is no X.509"),
            ("long", vec![0; 2_049], "the certificate has 2049 bytes; expected at most 2048"),
            ("more follows", [&good[..], &[0]].concat(), "1 bytes follow the certificate; expected none"),
            ("cut", good[..good.len() - 1].to_vec(), "the certificate is no X.509"),
            ("no extension", sham().der(vec![]), "names a member 0 times; expected once"),
            ("two", control.der(vec![control.content(); 2]), "names a member 2 times; expected once"),
            ("empty extension", cut(0), "extension has length 0; expected a federation, a name"),
            ("cut federation", cut(20), "extension has length 20"),
            ("cut name", cut(37), "extension has length 37"),
            ("other form", with(0, 2), "extension has version 2; expected 1"),
            ("no name", with(34, b'!'), "extension has the name \"!ode-2\"; expected a member's name"),
            ("no text", with(34, 0xff), "expected a member's name"),
            ("long signature", sham().der(vec![long]), "bytes long; expected at most 128 bytes"),
            (
                "of elsewhere",
                changed(|s| s.federation.0[0] = 8),
                "is of the federation 0807070707070707…; exp",
            ),
            ("no member", changed(|s| s.member = node(9)), "names node-9, which is no member"),
            ("another's name", changed(|s| s.member = node(3)), "not that of node-3 over this key"),
            (
                "for ever",
                changed(|s| s.not_after.0 += 92 * 86_400),
                "until 2025-01-05T00:00:00Z; expected at most",
            ),
            ("of another key", sham().der(vec![honest]), "not that of node-2 over this key and these times"),
            ("a later end", later, "not that of node-2 over this key and these times"),
        ];
        for (what, der, expected) in cases {
            let error = check_at(&der, NOW).expect_err(what).to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    }

    #[test]
    fn a_certificate_signed_by_another_key_is_refused() {
        let (sham, other) = (Sham::new(), Sham::new());
        let mut parameters = CertificateParams::default();
        parameters.custom_extensions = vec![CustomExtension::from_oid_content(OID, sham.content())];
        let issuer = Issuer::new(CertificateParams::default(), other.key);
        let certificate = parameters.signed_by(&sham.key, &issuer).expect("made");
        assert_eq!(check_at(certificate.der(), NOW), Err(IdentityError::NotSelfSigned));
    }

    #[test]
    fn other_algorithms_and_critical_extensions_are_refused() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let sham = Sham { key, ..Sham::new() };
        let error = check_at(&sham.der(vec![sham.content()]), NOW).expect_err("refused").to_string();
        assert_eq!(error, "the certificate's key is of the algorithm 1.2.840.10045.2.1; expected Ed25519");
        let sham = Sham::new();
        let mut unknown = CustomExtension::from_oid_content(&[2, 25, 1], vec![]);
        unknown.set_criticality(true);
        let mut parameters = CertificateParams::default();
        parameters.custom_extensions = vec![unknown, CustomExtension::from_oid_content(OID, sham.content())];
        let certificate = parameters.self_signed(&sham.key).expect("made");
        assert_eq!(check_at(certificate.der(), NOW), Err(IdentityError::Critical("2.25.1".into())));
    }

    #[test]
    fn a_lifetime_out_of_its_range_makes_no_certificate() {
        for lifetime in [Duration::ZERO, Duration::from_millis(999), LIFETIME_MAX + Duration::from_secs(1)] {
            let made = issue(&node(2), &HERE, &NameVoucher(node(2)), lifetime, NOW);
            let error = made.map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains(&format!("the lifetime is {lifetime:?}")), "{error}");
        }
        let made = issue(&node(2), &HERE, &NameVoucher(node(2)), WEEK, WallTime(u64::MAX));
        assert!(matches!(made.map(|_| ()), Err(IdentityError::Making(_))), "no such date");
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            prop_assert!(check_at(&bytes, NOW).is_err());
        }

        /// However a certificate is damaged, parsing terminates, and the result is never another member's certificate.
        #[test]
        fn a_damaged_certificate_is_nobody_elses(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
        ) {
            let mut der = issued(2, NOW).certificate.der().to_vec();
            for (at, byte, kind) in damage {
                let at = at.index(der.len());
                match kind {
                    0 => der[at] = byte,
                    1 => der.insert(at, byte),
                    _ => drop(der.remove(at)),
                }
            }
            let checked = check_at(&der, NOW);
            prop_assert!(checked.is_err() || checked == Ok(node(2)));
        }

        /// Damage inside the certificate's own signature, which is made over the damaged content.
        #[test]
        fn an_extension_of_any_content_is_nobodys(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let sham = Sham::new();
            let keep = bytes.len().min(40);
            let content = [&sham.content()[..keep], &bytes].concat();
            prop_assert!(check_at(&sham.der(vec![bytes]), NOW).is_err());
            prop_assert!(check_at(&sham.der(vec![content]), NOW).is_err());
        }

        /// Two statements have the same encoding only if they are equal.
        #[test]
        fn fields_do_not_run_into_each_other(
            names in prop::collection::vec("[a-z]{1,6}", 2),
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 2),
        ) {
            let name = |n: usize| NodeId::new(&names[n]).expect("a name");
            let bytes = |n: usize| statement(&HERE, &name(n), &keys[n], Seconds(1), Seconds(2));
            let is_same = names[0] == names[1] && keys[0] == keys[1];
            prop_assert_eq!(bytes(0) == bytes(1), is_same);
        }
    }
}
