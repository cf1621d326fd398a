//! Commands for link certificates: create one as the member would, and identify the member of any.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alys_cluster::clock::{Clock as _, SystemClock};
use alys_cluster::transport::identity::{self, Claim, FederationId};
use alys_node::certificate_signer::LinkCertificateSigner;
use alys_node::config::NodeConfig;
use alys_node::genesis::Genesis;
use alys_node::keys::SecretKey;
use anyhow::Context as _;
use clap::Args;

use crate::{ConfigFile, exit};

#[derive(Args)]
pub(crate) struct Inspect {
    /// The certificate, in PEM or DER.
    file: PathBuf,
    /// The genesis that the certificate is checked against.
    #[arg(long)]
    genesis: PathBuf,
}

/// Creates a certificate as the member would, and prints it. The certificate's private key is discarded.
pub(crate) fn make(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let (config, genesis) = NodeConfig::load(&file.config, &file.overrides())?;
    alys_node::check_key(&config, &genesis)?;
    let certificate_signer =
        LinkCertificateSigner::new(&genesis, SecretKey::read(&config.identity.key_file)?);
    let (name, federation) = (&config.identity.name, FederationId(genesis.hash()));
    let now = SystemClock::default().wall();
    let issued =
        identity::issue(name, &federation, &certificate_signer, config.link.certificate_lifetime, now)?;
    print(&Claim::read(issued.certificate.der())?);
    print!("{}", issued.certificate.pem());
    Ok(ExitCode::SUCCESS)
}

/// Prints which member a certificate belongs to. If the certificate is invalid, prints why; exit code 1.
pub(crate) fn inspect(command: &Inspect) -> anyhow::Result<ExitCode> {
    let genesis = Genesis::from_file(&command.genesis)?;
    let der = read(&command.file)?;
    let members: Vec<_> = genesis.members().iter().map(|member| member.name.clone()).collect();
    let (federation, certificate_signer) =
        (FederationId(genesis.hash()), LinkCertificateSigner::reader(&genesis));
    let now = SystemClock::default().wall();
    let outcome = der.and_then(|der| {
        print(&Claim::read(&der)?);
        identity::check(&der, &federation, &members, &certificate_signer, now)
    });
    match outcome {
        Ok(member) => {
            println!("holds: {member} of chain {} vouches for this key", genesis.chain_id());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("alys-node: {}: {error}", command.file.display());
            Ok(ExitCode::from(exit::FAILED))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Result<Vec<u8>, identity::IdentityError>> {
    let bytes = fs::read(path).with_context(|| format!("certificate file {}", path.display()))?;
    // DER starts with the tag of a sequence, 0x30, which is the digit `0` in text.
    let is_der = bytes.first() == Some(&0x30) && std::str::from_utf8(&bytes).is_err();
    Ok(if is_der { Ok(bytes) } else { identity::from_pem(&bytes) })
}

fn print(claim: &Claim) {
    println!("member: {}", claim.member);
    println!("federation: {}", hex::encode(claim.federation.0));
    println!("valid: from {} until {}", claim.not_before, claim.not_after);
}
