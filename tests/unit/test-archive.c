/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The archive of evidence: what is stored once, what goes first, and what somebody else has put there. */
#include <ftw.h>
#include <sys/stat.h>

#include "test.h"
#include "worker/archive.h"

static char folder[256];

static int remove_one(const char *path, _unused_ const struct stat *st, _unused_ int flag, _unused_ struct FTW *f) {
        return remove(path);
}

static unsigned count(const char *name, uint64_t *ret_bytes) {
        char path[512];
        struct dirent *e;
        unsigned n = 0;
        DIR *d;

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        *ret_bytes = 0;
        d = opendir(path);
        while (d && (e = readdir(d))) {
                struct stat st;

                if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                n++;
                *ret_bytes += (uint64_t) st.st_size;
        }
        if (d)
                closedir(d);
        return n;
}

static int store_record(const char *chain, const char *measurements, const char *record, uint64_t time, const struct archive_limits *limits, char name[static 64]) {
        struct evidence e = { .time_usec = time };
        int r;

        check_int(evidence_set(&e, EVIDENCE_SLOT0, chain, strlen(chain)), 0);
        check_int(evidence_set(&e, EVIDENCE_MEASUREMENTS, measurements, strlen(measurements)), 0);
        r = archive_store(folder, &e, "0000:01:00.0", record, limits, name);
        evidence_done(&e);
        return r;
}

static int store(const char *chain, const char *measurements, uint64_t time, const struct archive_limits *limits, char name[static 64]) {
        return store_record(chain, measurements, "{}", time, limits, name);
}

static void test_digest(void) {
        char digest[ARCHIVE_DIGEST];

        test_about("%s", "digest");
        /* FIPS 180-4, "abc" */
        check_int(archive_digest("abc", 3, digest), 0);
        check_str(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_once(void) {
        const struct archive_limits limits = { 1 << 20, 100 };
        uint64_t bytes;
        char name[64];

        test_about("%s", "stored once");
        check_int(store("chain", "first", 1, &limits, name), 0);
        check_str(name, "00000000000000000001-0000:01:00.0.json");
        check_int(store("chain", "second", 2, &limits, name), 0);
        check_int(count("objects", &bytes), 3);
        check_int(bytes, strlen("chain") + strlen("first") + strlen("second"));
        check_int(count("records", &bytes), 2);
}

static void test_limits(void) {
        const struct archive_limits records = { 1 << 20, 3 }, bytes_too = { 40, 3 }, none = { 0, 1 };
        uint64_t bytes;
        char name[64], path[600];

        test_about("%s", "limits");
        for (uint64_t i = 10; i < 20; i++) {
                char text[32];

                snprintf(text, sizeof(text), "measurement %" PRIu64, i);
                check_int(store("chain", text, i, i < 15 ? &records : &bytes_too, name), 0);
                check(count("records", &bytes) <= 3);
        }
        check_int(count("records", &bytes), 3);
        /* The newest is there, and what it has. */
        snprintf(path, sizeof(path), "%s/records/%s", folder, name);
        check_int(access(path, F_OK), 0);
        check(count("objects", &bytes) >= 2);
        check(bytes <= 40);
        /* Whatever the limit, what was just stored stays. */
        check_int(store("another chain", "and what it measures", 30, &none, name), 0);
        check_int(count("objects", &bytes), 2);
        check_int(bytes, strlen("another chain") + strlen("and what it measures"));
        check_int(count("records", &bytes), 1);
}

/* Records are not of one size: a device with much to say has long ones. */
static void test_record_bytes(void) {
        const struct archive_limits limits = { 2500, 100 };
        char name[64] = "", first[64] = "", path[600], record[1001];
        uint64_t bytes;

        test_about("%s", "bytes of records");
        memset(record, ' ', 1000);
        record[1000] = '\0';
        for (uint64_t i = 31; i < 37; i++) {
                check_int(store_record("chain", "x", record, i, &limits, i == 35 ? first : name), 0);
                check(count("records", &bytes) >= 1);
                check(bytes <= 2500);
        }
        check_int(count("records", &bytes), 2);
        check_int(bytes, 2000);
        /* The oldest have gone. */
        snprintf(path, sizeof(path), "%s/records/%s", folder, first);
        check_int(access(path, F_OK), 0);
        snprintf(path, sizeof(path), "%s/records/%s", folder, name);
        check_int(access(path, F_OK), 0);
}

static void test_read_back(void) {
        const struct archive_limits limits = { 1 << 20, 100 };
        char path[600], target[600], digest[ARCHIVE_DIGEST], name[64], newest[64];
        _cleanup_free_ char *record = NULL;
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;
        FILE *f;

        test_about("%s", "read back");
        check_int(store_record("chain", "y", "{\"of\": \"then\"}", 100, &limits, name), 0);
        check_int(store_record("chain", "y", "{\"of\": \"now\"}", 101, &limits, name), 0);
        /* Names that are no record's, newer ones among them. */
        snprintf(path, sizeof(path), "%s/records/99999999999999999999-0000:02:00.0.json", folder);
        f = fopen(path, "we");
        check(f && fclose(f) == 0);
        snprintf(path, sizeof(path), "%s/records/.99999999999999999999-0000:01:00.0.json.new", folder);
        f = fopen(path, "we");
        check(f && fclose(f) == 0);
        check_int(archive_newest(folder, "0000:01:00.0", 1000, newest, &record), 0);
        check_str(newest, name);
        check_str(record, "{\"of\": \"now\"}");
        free(TAKE_PTR(record));
        check_int(archive_newest(folder, "0000:01:00.0", 5, newest, &record), -EFBIG);
        check_int(archive_newest(folder, "0000:03:00.0", 1000, newest, &record), -ENOENT);
        check_int(archive_newest("/nonexistent", "0000:01:00.0", 1000, newest, &record), -ENOENT);
        /* Objects by what they are. */
        check_int(archive_digest("chain", 5, digest), 0);
        check_int(archive_object(folder, digest, &data, &size), 0);
        check(size == 5 && memcmp(data, "chain", 5) == 0);
        free(data);
        data = NULL;
        for (const char *const *p = (const char *const[]){ "", "../records", "..", "zz", NULL }; *p; p++)
                check_int(archive_object(folder, *p, &data, &size), -EBADMSG);
        snprintf(path, sizeof(path), "%s/objects/%s", folder, digest);
        snprintf(target, sizeof(target), "%s/kept", folder);
        check_int(rename(path, target), 0);
        check_int(archive_object(folder, digest, &data, &size), -ENOENT);
        /* What a link leads to is not the archive's, nor is another file of that name. */
        check_int(symlink(target, path), 0);
        check_int(archive_object(folder, digest, &data, &size), -ELOOP);
        check_int(unlink(path), 0);
        f = fopen(path, "we");
        check(f && fputs("chalk", f) >= 0 && fclose(f) == 0);
        check_int(archive_object(folder, digest, &data, &size), -EBADMSG);
        check_int(unlink(path), 0);
        check_int(mkfifo(path, 0600), 0);
        check_int(archive_object(folder, digest, &data, &size), -EBADMSG);
        check_int(unlink(path), 0);
        check(!data);
}

static void test_strangers(void) {
        const struct archive_limits limits = { 1 << 20, 100 };
        char path[600], digest[ARCHIVE_DIGEST], name[64], target[600];
        struct stat st;

        test_about("%s", "strangers");
        /* A link in the place of an object is not followed, and not taken for one. */
        check_int(archive_digest("linked", 6, digest), 0);
        snprintf(path, sizeof(path), "%s/objects/%s", folder, digest);
        snprintf(target, sizeof(target), "%s/elsewhere", folder);
        check_int(symlink(target, path), 0);
        check_int(store("linked", "x", 40, &limits, name), 0);
        check_int(access(target, F_OK), -1);
        check_int(lstat(path, &st), 0);
        check(S_ISREG(st.st_mode));
        /* What an earlier writer left half done is overwritten. */
        snprintf(path, sizeof(path), "%s/objects/.%s.new", folder, digest);
        check_int(unlink(path), -1);
        /* A file where the folder should be. */
        snprintf(path, sizeof(path), "%s/records", folder);
        check_int(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
        check_int(symlink("/", path), 0);
        check(store("a", "b", 50, &limits, name) < 0);
        check_int(unlink(path), 0);
}

int main(void) {
        snprintf(folder, sizeof(folder), "%s/test-archive-XXXXXX", getenv("TMPDIR") ?: "/tmp");
        if (!mkdtemp(folder))
                return 1;
        test_digest();
        test_once();
        test_limits();
        test_record_bytes();
        test_read_back();
        test_strangers();
        (void) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        return test_end();
}
