#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Made the evidence in this folder, from DSP0274 by hand: the openssl program for certificates, digests and signatures, hexadecimal digits
# for the messages, and nothing that tdid is built of. Each run makes new keys, which it forgets; what is in the tree is one run's. The
# certificates are valid for 20 years from then on; tests give a time of their own.
# usage: make.sh FOLDER
set -eu
cd "$1"

hex() { printf %s "$*" | tr -d ' \n' | tr a-f A-F | sed 's/../\\x&/g' | xargs -0 printf '%b'; }
fill() { head -c "$1" /dev/zero | tr '\0' "\\$2"; }
size16() { printf '%04x' "$1" | sed 's/\(..\)\(..\)/\2\1/'; }

# r and s of a DER signature, each filled up to $1 bytes
raw() {
        hex "$(openssl asn1parse -inform DER | sed -n 's/.*INTEGER *://p' | while read -r number; do printf "%$(($1 * 2))s" "$number" | tr ' ' 0; done)"
}

cat >conf <<'END'
[req]
distinguished_name = none
[none]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = 1.3.6.1.4.1.412.274.3
subjectAltName = otherName:1.3.6.1.4.1.412.274.1;UTF8:ACME:WIDGET:0001
1.3.6.1.4.1.412.274.6 = ASN1:SEQUENCE:oids
2.23.133.5.4.1 = ASN1:SEQUENCE:tcb
[oids]
one = SEQUENCE:hardware
[hardware]
oid = OID:1.3.6.1.4.1.412.274.2
[tcb]
vendor = IMPLICIT:0,UTF8:ACME
model = IMPLICIT:1,UTF8:WIDGET
svn = IMPLICIT:3,INTEGER:7
layer = IMPLICIT:4,INTEGER:1
fwids = IMPLICIT:6,SEQUENCE:fwids
flags = IMPLICIT:7,FORMAT:BITLIST,BITSTRING:1
[fwids]
one = SEQUENCE:fwid
[fwid]
hash = OID:SHA384
digest = FORMAT:HEX,OCTETSTRING:424242424242424242424242424242424242424242424242424242424242424242424242424242424242424242424242
END

for name in root model leaf; do openssl ecparam -genkey -name secp384r1 -noout -out $name.key; done
openssl req -new -x509 -key root.key -subj "/O=ACME/CN=Root" -days 7300 -sha384 -out root.pem -extensions ca -config conf
request() { openssl req -new -config conf -key "$1.key" -subj "/O=ACME/CN=$2"; }
issue() { openssl x509 -req -CA "$1.pem" -CAkey "$1.key" -set_serial "$2" -days 7300 -sha384 -extfile conf -extensions "$3"; }
request model "WIDGET" | issue root 2 ca >model.pem
request leaf "WIDGET 0001" | issue model 3 leaf >leaf.pem
cat root.pem >anchors.pem

# ---- the chain of slot 0
for name in root model leaf; do openssl x509 -in $name.pem -outform DER; done >certificates
openssl x509 -in root.pem -outform DER | openssl dgst -sha384 -binary >root-hash
{
        hex "$(size16 $(($(wc -c <certificates) + 52)))" 0000
        cat root-hash certificates
} >slot0
openssl dgst -sha384 -binary slot0 >chain-hash

# ---- the measurements: digests of ROM and firmware, device mode, security version number 5
{
        hex 01 01 3300 00 3000; fill 48 101
        hex 02 01 3300 01 3000; fill 48 102
        hex 05 01 0700 85 0400 01020304
        hex 07 01 0b00 87 0800 0500000000000000
} >record
openssl dgst -sha384 -binary record >summary

# ---- 1.2, SHA-384, ECDSA P-384
{
        hex 10840000; hex 10040000 0003 0010 0011 0012
        hex 12e10000 00000000 00000000 00100000 00100000; hex 12610000 000c0000 16000000 00100000 00100000
        hex 12e30000 2000 01 02 80000000 02000000 000000000000000000000000 00 00 0000
        hex 12630000 2400 01 02 04000000 80000000 02000000 000000000000000000000000 00 00 0000
} >1.2-vca
sign12() {
        context=$1
        openssl dgst -sha384 -binary >hash
        {
                printf 'dmtf-spdm-v1.2.*%.0s' 1 2 3 4; head -c $((36 - ${#context})) /dev/zero; printf %s "$context"
                cat hash
        } | openssl dgst -sha384 -sign leaf.key | raw 48
}
{
        hex 12e001ff; fill 32 141; hex 00
        hex 12600000 04 880000; cat record; fill 32 103; hex 0000
} >l1
{ cat l1; cat 1.2-vca l1 | sign12 'responder-measurements signing'; } >1.2-measurements
{
        hex 12810000; hex 12010001; cat chain-hash
        hex 128300ff; fill 32 142
        hex 12030001; cat chain-hash; fill 32 104; cat summary; hex 0000
} >bc
{ cat bc; cat 1.2-vca bc | sign12 'responder-challenge_auth signing'; } >1.2-challenge

# ---- 1.1: the measurements' signature is not over the VCA, and there is no prefix
{
        hex 10840000; hex 10040000 0002 0010 0011
        hex 11e10000 00000000 00000000; hex 11610000 000a0000 16000000
        hex 11e30000 2000 01 00 80000000 02000000 000000000000000000000000 00 00 0000
        hex 11630000 2400 01 00 04000000 80000000 02000000 000000000000000000000000 00 00 0000
} >1.1-vca
{
        hex 11e001ff; fill 32 141; hex 00
        hex 11600000 04 880000; cat record; fill 32 103; hex 0000
} >l1
{ cat l1; openssl dgst -sha384 -sign leaf.key l1 | raw 48; } >1.1-measurements
{
        hex 11810000; hex 11010001; cat chain-hash
        hex 118300ff; fill 32 142
        hex 11030001; cat chain-hash; fill 32 104; cat summary; hex 0000
} >bc
{ cat bc; cat 1.1-vca bc | openssl dgst -sha384 -sign leaf.key | raw 48; } >1.1-challenge

# The same measurements without a signature
{
        hex 12e000ff
        hex 12600000 04 880000; cat record; fill 32 103; hex 0000
} >1.2-unsigned

rm -f conf ./*.key root.pem model.pem leaf.pem certificates root-hash chain-hash record summary l1 bc hash
