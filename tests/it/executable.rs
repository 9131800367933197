//! The executable file of orch itself.

use std::fs::File;
use std::io::Read as _;

/// `e_type` of a program that is linked at a fixed address; see elf(5).
const ET_EXEC: u16 = 2;

#[test]
fn the_program_is_linked_at_a_fixed_address() {
    if option_env!("ORCH_PIE") == Some("1") {
        return crate::support::print_skipped("the address of the program is not checked", "ORCH_PIE is 1");
    }
    let mut header = [0; 18];
    File::open(env!("CARGO_BIN_EXE_orch")).unwrap().read_exact(&mut header).unwrap();
    assert!(header.starts_with(b"\x7fELF"));
    assert_eq!(u16::from_ne_bytes([header[16], header[17]]), ET_EXEC);
}
