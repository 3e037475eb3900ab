#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Made the transcripts in this folder, from DSP0274 by hand: hexadecimal digits for the messages, the openssl program for keys and
# signatures, and nothing that tdid is built of. Each run makes new keys; what is in the tree is one run's.
# usage: make.sh FOLDER
set -eu
cd "$1"

hex() { printf %s "$*" | tr -d ' \n' | tr a-f A-F | sed 's/../\\x&/g' | xargs -0 printf '%b'; }
fill() { head -c "$1" /dev/zero | tr '\0' "\\$2"; }

# r and s of a DER signature, each filled up to $1 bytes
raw() {
        hex "$(openssl asn1parse -inform DER | sed -n 's/.*INTEGER *://p' | while read -r number; do printf "%$(($1 * 2))s" "$number" | tr ' ' 0; done)"
}

# ---- 1.1: SHA-256, ECDSA P-256, measurements without the VCA in L1, all at once
openssl ecparam -genkey -name prime256v1 -noout -out key.pem
openssl pkey -in key.pem -pubout -out 1.1-key.pem
{
        hex 10840000; hex 10040000 0002 0010 0011
        hex 11e10000 00000000 00000000; hex 11610000 000a0000 16000000
        hex 11e30000 2000 01 00 90000000 03000000 000000000000000000000000 00 00 0000
        hex 11630000 2400 01 00 02000000 10000000 01000000 000000000000000000000000 00 00 0000
} >1.1-vca
{
        hex 11e001ff; fill 32 101; hex 00
        # two blocks: index 1 a digest of type 1, index 7 raw of type 0x87
        hex 11600000 02 2f0000
        hex 01 01 2300 01 2000; fill 32 252
        hex 07 01 0400 87 0100 2a
        fill 32 103; hex 0000
} >l1
openssl dgst -sha256 -sign key.pem l1 | raw 32 >signature
cat l1 signature >1.1-measurements

# ---- 1.2: SHA-384, RSA-2048 with PSS, CHALLENGE: A, B, C, and the combined prefix
openssl genrsa -out key.pem 2048
openssl pkey -in key.pem -pubout -out 1.2-key.pem
{
        hex 10840000; hex 10040000 0003 0010 0011 0012
        hex 12e10000 00000000 00000000 00100000 00100000; hex 12610000 000c0000 06000000 00100000 00100000
        hex 12e30000 2000 01 02 02000000 07000000 000000000000000000000000 00 00 0000
        hex 12630000 2400 00 02 00000000 02000000 02000000 000000000000000000000000 00 00 0000
} >1.2-vca
{
        hex 12810000; hex 12010001; fill 48 104
        hex 12820000 0000 0004; hex 12020000 0500 0000 0102030405
        hex 12830000; fill 32 105
        hex 12030001; fill 48 104; fill 32 106; hex 0400 00000000
} >bc
cat 1.2-vca bc | openssl dgst -sha384 -binary >hash
{
        printf 'dmtf-spdm-v1.2.*%.0s' 1 2 3 4; fill 4 0; printf 'responder-challenge_auth signing'
        cat hash
} | openssl dgst -sha384 -sign key.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest >signature
cat bc signature >1.2-challenge

# ---- 1.3: SHA-512, ECDSA P-384, measurements with the VCA in L1 and contexts: the count, index 1, index 3 signed
openssl ecparam -genkey -name secp384r1 -noout -out key.pem
openssl pkey -in key.pem -pubout -out 1.3-key.pem
{
        hex 10840000; hex 10040000 0004 0010 0011 0012 0013
        hex 13e10000 00000000 00000000 00100000 00100000; hex 13610000 000a0000 16000000 00200000 00200000
        hex 13e30000 2000 01 02 90000000 07000000 000000000000000000000000 00 00 0000
        hex 13630000 2400 01 02 08000000 80000000 04000000 000000000000000000000000 00 00 0000
} >1.3-vca
{
        hex 13e00000; printf context1
        hex 13600200 00 000000; fill 32 107; hex 0000; printf context1
        hex 13e00001; printf context2
        hex 13600000 01 470000 01 01 4300 00 4000; fill 64 111; fill 32 110; hex 0000; printf context2
        hex 13e00103; fill 32 112; hex 02; printf context3
        hex 13600022 01 0b0000 03 01 0700 84 0400 deadbeef; fill 32 113; hex 0300 010203; printf context3
} >l1
cat 1.3-vca l1 | openssl dgst -sha512 -binary >hash
{
        printf 'dmtf-spdm-v1.3.*%.0s' 1 2 3 4; fill 6 0; printf 'responder-measurements signing'
        cat hash
} | openssl dgst -sha512 -sign key.pem | raw 48 >signature
cat l1 signature >1.3-measurements

rm key.pem l1 bc hash signature
