//! What somebody who installs, bakes or releases vmjob sees of it.

mod aarch64;
mod deb;
mod documentation;
mod image;
mod pages;
mod publish;
mod release;
mod reproducible;
