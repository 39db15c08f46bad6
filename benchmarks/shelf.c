// Simulates a bucket full of generated reports: answers only LIST and HEAD, in the format of docs/archive-format.md.
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
static long reports;

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

static size_t list(long from, char *out, size_t size) {
  long to = from + PAGE < reports ? from + PAGE : reports;
  size_t at = snprintf(out, size, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>b</Name><KeyCount>%ld</KeyCount>"
      "<MaxKeys>%d</MaxKeys><IsTruncated>%s</IsTruncated>", to - from, PAGE, to < reports ? "true" : "false");
  if (to < reports) at += snprintf(out + at, size - at, "<NextContinuationToken>n%ld</NextContinuationToken>", to);
  for (long n = from; n < to; n++) {
    char name[128];
    key(n, name, sizeof name);
    at += snprintf(out + at, size - at, "<Contents><Key>%s</Key><LastModified>2025-06-01T00:00:00.000Z</LastModified>"
        "<ETag>&quot;%032lx&quot;</ETag><Size>200000</Size></Contents>", name, n);
  }
  return at + snprintf(out + at, size - at, "</ListBucketResult>");
}

static int answer(int peer, const char *method, const char *uri, char *out, size_t size) {
  static const char *head = "HTTP/1.1 200 OK\r\nx-amz-request-id: 1\r\n%sContent-Length: %zu\r\n\r\n";
  char extra[1024] = "Content-Type: application/xml\r\n", first[1536];
  size_t length = 0;
  if (!strcmp(method, "HEAD")) {
    const char *hash = strrchr(uri, '_');
    long n = hash ? strtol(hash + 1, NULL, 16) : 0;
    char at[64];
    stamp(n, "%Y-%m-%dT%H:%M:%SZ", at, sizeof at);
    snprintf(extra, sizeof extra, "Content-Type: application/pdf\r\nETag: \"%032lx\"\r\nLast-Modified: Sun, 01 Jun 2025 00:00:00 GMT\r\n"
        "x-amz-meta-format-version: 1\r\nx-amz-meta-report-id: 00000000-0000-4000-8000-%012lx\r\nx-amz-meta-dashboard: d-%04ld\r\n"
        "x-amz-meta-rendered-at: %s\r\nx-amz-meta-ingested-at: %s\r\nx-amz-meta-sha256: %016lx%048d\r\nx-amz-meta-md5: %032lx\r\n"
        "x-amz-meta-filename: report.pdf\r\n", n, n, n / PER_DASHBOARD, at, at, n, 0, n);
    length = 200000;
  } else {
    const char *token = strstr(uri, "continuation-token=n");
    length = list(token ? atol(token + 20) : 0, out, size);
  }
  int written = snprintf(first, sizeof first, head, extra, length);
  if (send(peer, first, written, MSG_NOSIGNAL) < 0) return 0;
  for (size_t sent = 0; strcmp(method, "HEAD") && sent < length;) {
    ssize_t n = send(peer, out + sent, length - sent, MSG_NOSIGNAL);
    if (n <= 0) return 0;
    sent += n;
  }
  return 1;
}

static void *serve(void *argument) {
  int peer = (int)(long)argument;
  char in[16384], method[8], uri[4096], *end;
  size_t size = 1 << 20, n = 0;
  char *out = malloc(size);
  for (;;) {
    while (!(end = memmem(in, n, "\r\n\r\n", 4))) {
      ssize_t got = n < sizeof in ? recv(peer, in + n, sizeof in - n, 0) : 0;
      if (got <= 0) goto closed;
      n += got;
    }
    if (sscanf(in, "%7s %4095s", method, uri) != 2 || !answer(peer, method, uri, out, size)) break;
    size_t used = end + 4 - in;
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
