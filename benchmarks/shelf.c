// Simulates a bucket full of generated reports: answers LIST and HEAD in the format of docs/archive-format.md. It also
// keeps objects below archive.manifests/ in memory, and answers PUT, LIST, HEAD and GET for them.
// usage: shelf PORT REPORTS   (127.0.0.1; 1,000 reports an hour apart for each dashboard)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PER_DASHBOARD 1000
#define PAGE 1000
#define KEPT 64
static long reports;
static struct { char key[256], *body; size_t size; } kept[KEPT];
static int keeps;
static const char *found_head = "HTTP/1.1 200 OK\r\nx-amz-request-id: 1\r\n%sContent-Length: %zu\r\n\r\n";

static void stamp(long n, const char *format, char *out, size_t size) {
  time_t at = 1735689600 + (n % PER_DASHBOARD) * 3600;  // 2025-01-01T00:00:00Z
  struct tm parts;
  gmtime_r(&at, &parts);
  strftime(out, size, format, &parts);
}

static void key(long n, char *out, size_t size) {
  char time[64];
  stamp(n, "%Y/%m/%d/%Y%m%dT%H%M%SZ", time, sizeof time);
  snprintf(out, size, "d-%04ld/%s_%016lx.pdf", n / PER_DASHBOARD, time, n);
}

// Ids spread, as random ones do.
static unsigned spread(long n) { return n * 2654435761u; }

static size_t entry(char *out, size_t size, const char *key, unsigned long tag, size_t length) {
  return snprintf(out, size, "<Contents><Key>%s</Key><LastModified>2025-06-01T00:00:00.000Z</LastModified>"
      "<ETag>&quot;%032lx&quot;</ETag><Size>%zu</Size><StorageClass>STANDARD</StorageClass></Contents>", key, tag, length);
}

static size_t list(const char *uri, char *out, size_t size) {
  const char *token = strstr(uri, "continuation-token=n");
  int manifests = strstr(uri, "prefix=archive.manifests") != NULL;
  long from = token ? atol(token + 20) : 0, to = manifests ? 0 : from + PAGE < reports ? from + PAGE : reports;
  int more = !manifests && to < reports;
  size_t at = snprintf(out, size, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
      "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><MaxKeys>%d</MaxKeys>"
      "<IsTruncated>%s</IsTruncated>", PAGE, more ? "true" : "false");
  if (more) at += snprintf(out + at, size - at, "<NextContinuationToken>n%ld</NextContinuationToken>", to);
  for (int i = 0; !token && i < keeps; i++) at += entry(out + at, size - at, kept[i].key, i, kept[i].size);
  for (long n = from; n < to; n++) {
    char name[128];
    key(n, name, sizeof name);
    at += entry(out + at, size - at, name, n, 200000);
  }
  return at + snprintf(out + at, size - at, "</ListBucketResult>");
}

static int send_all(int peer, const char *out, size_t length) {
  for (size_t sent = 0; sent < length;) {
    ssize_t n = send(peer, out + sent, length - sent, MSG_NOSIGNAL);
    if (n <= 0) return 0;
    sent += n;
  }
  return 1;
}

static int answer(int peer, const char *headers, const char *body, size_t length, int with_body) {
  char first[2048];
  int written = snprintf(first, sizeof first, found_head, headers, length);
  return send_all(peer, first, written) && (!with_body || send_all(peer, body, length));
}

static int answer_report(int peer, const char *uri) {
  const char *hash = strrchr(uri, '_');
  long n = hash ? strtol(hash + 1, NULL, 16) : 0;
  char at[64], headers[1024];
  stamp(n, "%Y-%m-%dT%H:%M:%SZ", at, sizeof at);
  snprintf(headers, sizeof headers, "Content-Type: application/pdf\r\nETag: \"%032lx\"\r\nLast-Modified: Sun, 01 Jun 2025 00:00:00 GMT\r\n"
      "x-amz-meta-format-version: 1\r\nx-amz-meta-report-id: %08x-0000-4000-8000-%012lx\r\nx-amz-meta-dashboard: d-%04ld\r\n"
      "x-amz-meta-rendered-at: %s\r\nx-amz-meta-ingested-at: %s\r\nx-amz-meta-sha256: %016lx%048d\r\nx-amz-meta-md5: %032lx\r\n"
      "x-amz-meta-filename: report.pdf\r\n", n, spread(n), n, n / PER_DASHBOARD, at, at, n, 0, n);
  return answer(peer, headers, "", 200000, 0);
}

static int answer_kept(int peer, const char *name, int with_body) {
  for (int i = 0; i < keeps; i++) {
    char headers[128];
    snprintf(headers, sizeof headers, "ETag: \"%032x\"\r\nLast-Modified: Sun, 01 Jun 2025 00:00:00 GMT\r\n", i);
    if (!strcmp(kept[i].key, name)) return answer(peer, headers, kept[i].body, kept[i].size, with_body);
  }
  static const char *none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
  return send_all(peer, none, strlen(none));
}

// Read the body of a PUT, of which `got` bytes at `start` are there, and keep it. Return how many of these belong to it.
static ssize_t keep(int peer, const char *head, const char *name, const char *start, size_t got) {
  static const char *go_on = "HTTP/1.1 100 Continue\r\n\r\n";
  const char *field = strcasestr(head, "\r\ncontent-length:");
  size_t size = field ? strtoul(field + 17, NULL, 10) : 0, n = got < size ? got : size, used = n;
  char *body = malloc(size + 1);
  memcpy(body, start, n);
  if (strcasestr(head, "\r\nexpect:") && !send_all(peer, go_on, strlen(go_on))) return -1;
  while (n < size) {
    ssize_t more = recv(peer, body + n, size - n, 0);
    if (more <= 0) return -1;
    n += more;
  }
  if (keeps == KEPT || strlen(name) >= sizeof kept[0].key) return -1;
  strcpy(kept[keeps].key, name);
  kept[keeps].body = body;
  kept[keeps++].size = size;
  return answer(peer, "ETag: \"0\"\r\n", "", 0, 0) ? (ssize_t)used : -1;
}

static void *serve(void *argument) {
  int peer = (int)(long)argument;
  char in[65536], method[8], uri[4096], *end;
  size_t size = 1 << 20, n = 0;
  char *out = malloc(size);
  for (;;) {
    while (!(end = memmem(in, n, "\r\n\r\n", 4))) {
      ssize_t got = n < sizeof in - 1 ? recv(peer, in + n, sizeof in - 1 - n, 0) : 0;
      if (got <= 0) goto closed;
      n += got;
    }
    end[2] = 0;
    size_t used = end + 4 - in;
    if (sscanf(in, "%7s %4095s", method, uri) != 2) break;
    int listing = strstr(uri, "list-type=2") != NULL, done;
    if (!listing) uri[strcspn(uri, "?")] = 0;
    const char *name = strstr(uri, "archive.manifests/");
    if (!strcmp(method, "PUT")) {
      ssize_t body = name ? keep(peer, in, name, in + used, n - used) : -1;
      done = body >= 0;
      used += done ? body : 0;
    } else if (listing) {
      done = answer(peer, "Content-Type: application/xml\r\n", out, list(uri, out, size), 1);
    } else {
      done = name ? answer_kept(peer, name, !strcmp(method, "GET")) : answer_report(peer, uri);
    }
    if (!done) break;
    memmove(in, in + used, n - used);
    n -= used;
  }
closed:
  free(out);
  close(peer);
  return NULL;
}

int main(int count, char **words) {
  if (count != 3) return 2;
  reports = atol(words[2]);
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 128)) return 1;
  for (;;) {
    pthread_t thread;
    int peer = accept(listener, NULL, NULL);
    if (peer >= 0 && !pthread_create(&thread, NULL, serve, (void *)(long)peer)) pthread_detach(thread);
  }
}
