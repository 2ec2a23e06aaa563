// Package pki is drover's own certificate authority, and what it asks of the certificates of
// others. It is crypto/x509 with the rules of AWS IoT around it (identity spec §1.7, §4).
//
// An [Authority] is a file of the data folder with the private key of the current root. It can
// be replaced while a server runs (Rotate): the next certificate is signed by the new root, and
// servers send, with their own certificate, the new root signed by the one before, so that
// devices that know only an old root go on trusting them.
//
// Device certificates are good for nothing but to be a client: a device that holds one cannot
// pose as the server to another device, though both know the same root.
package pki
