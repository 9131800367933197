"""Makes the packages of orch from a program that is built already."""
