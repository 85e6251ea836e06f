#include "fetch/connection.h"

#include <fcntl.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "base/ascii.h"
#include "fetch/proxy_exceptions.h"

namespace hearth::fetch {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::redirect_error;
using asio::use_awaitable;

constexpr int kInterimMax = 8;          // 1xx answers before the real one
constexpr std::size_t kAddressesMax = 8;  // of one name that are tried
constexpr std::size_t kReadAhead = 64U << 10;

constexpr std::size_t kSendPiece = 256U << 10;  // of a file

// One file, read at any place.
class OpenFile {
public:
    explicit OpenFile(std::string const& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
    ~OpenFile() {
        if (fd_ >= 0) ::close(fd_);
    }
    OpenFile(OpenFile const&) = delete;
    OpenFile& operator=(OpenFile const&) = delete;

    // At least one byte. REQUIRES: `into` is not empty
    [[nodiscard]] Result<std::size_t> read(std::span<char> into, std::uint64_t offset) const {
        if (fd_ < 0) return Error(Code::io, fmt::format("cannot open '{}'", path_), path_);
        ssize_t count = 0;
        do count = ::pread(fd_, into.data(), into.size(), static_cast<::off_t>(offset));
        while (count < 0 && errno == EINTR);
        if (count > 0) return static_cast<std::size_t>(count);
        auto const why = count == 0 ? std::string("it became shorter") : std::string(std::strerror(errno));
        return Error(Code::io, fmt::format("cannot read '{}' at byte {}: {}", path_, offset, why), path_);
    }

private:
    std::string const& path_;
    int const fd_;
};

AddressClass class_of(ClientOptions const& options, asio::ip::address const& address) {
    if (address.is_v4()) return options.classify(address.to_v4().to_bytes());
    return options.classify(address.to_v6().to_bytes());
}

double seconds(Duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

Connection::Connection(net::Loop& loop, asio::ssl::context& tls, ClientOptions const& options, Pace& pace, Url url)
    : loop_(loop),
      options_(options),
      pace_(pace),
      url_(std::move(url)),
      stream_(loop.context(), tls),
      buffer_(options.header_bytes_max + kReadAhead) {}

Error Connection::failure(std::string_view doing, boost::system::error_code const& why) const {
    if (why == asio::error::operation_aborted || closed_)
        return {Code::cancelled, fmt::format("{} {} was cancelled", doing, url_.authority())};
    if (why == beast::error::timeout)
        return {Code::deadline_exceeded, fmt::format("{} {}: nothing happened for {} s", doing, url_.authority(),
                                                     seconds(options_.stall_timeout))};
    if (why == http::error::header_limit || why == http::error::buffer_overflow)
        return {Code::too_large, fmt::format("{} {}: its header is above the limit of {} bytes", doing,
                                             url_.authority(), options_.header_bytes_max)};
    bool const ended = why == asio::error::eof || why == asio::ssl::error::stream_truncated ||
                       why == http::error::end_of_stream || why == http::error::partial_message;
    if (ended) return {Code::unavailable, fmt::format("{} {}: it closed the connection", doing, url_.authority())};
    bool const garbled = why.category() == make_error_code(http::error::bad_version).category();
    return {garbled ? Code::corrupt : Code::unavailable,
            fmt::format("{} {}: {}", doing, url_.authority(), why.message())};
}

Status Connection::check_class(AddressClass to, std::optional<AddressClass> led_from) const {
    if (led_from && !may_lead_to(*led_from, to))
        return Error(Code::invalid_argument, fmt::format("a redirect from {} leads to {} ({}), which is not followed",
                                                         to_string(*led_from), url_.authority(), to_string(to)));
    if (to == AddressClass::unusable)
        return Error(Code::invalid_argument, fmt::format("{} has no usable address", url_.authority()));
    if (!url_.tls && to != AddressClass::loopback && options_.plain_http == PlainHttp::this_machine)
        return Error(Code::invalid_argument,
                     fmt::format("{} is asked for without TLS and is not this machine; say https, or allow it with "
                                 "--insecure",
                                 url_.origin()));
    return ok();
}

net::Task<Result<std::vector<Connection::Endpoint>>> Connection::resolve(Url const& url) {
    asio::ip::tcp::resolver resolver(loop_.context());
    boost::system::error_code why;
    auto const port = std::to_string(url.port);
    auto const found = co_await resolver.async_resolve(url.host, port, asio::ip::tcp::resolver::numeric_service,
                                                       redirect_error(use_awaitable, why));
    if (why) co_return Error(Code::unavailable, fmt::format("cannot resolve '{}': {}", url.host, why.message()));
    std::vector<Endpoint> endpoints;
    for (auto const& entry : found) {
        if (endpoints.size() < kAddressesMax) endpoints.push_back(entry.endpoint());
    }
    co_return endpoints;
}

net::Task<Status> Connection::connect(Url const& url, std::optional<AddressClass> led_from, bool is_proxy) {
    HEARTH_CO_TRY(auto const endpoints, co_await resolve(url));
    Error last(Code::unavailable, fmt::format("'{}' has no address", url.host));
    for (auto const& endpoint : endpoints) {
        if (closed_) co_return Error(Code::cancelled, "connecting was cancelled");
        auto const kind = class_of(options_, endpoint.address());
        if (!is_proxy) {
            auto const allowed = check_class(kind, led_from);
            if (!allowed) {
                last = allowed.error();
                continue;
            }
        }
        tcp().expires_after(options_.connect_timeout);
        boost::system::error_code why;
        co_await tcp().async_connect(endpoint, redirect_error(use_awaitable, why));
        if (!why) {
            if (!is_proxy) reached_ = kind;
            tcp().socket().set_option(asio::ip::tcp::no_delay(true), why);
            co_return ok();
        }
        last = why == beast::error::timeout
                   ? Error(Code::deadline_exceeded, fmt::format("connecting to {} took longer than {} s",
                                                                url.authority(), seconds(options_.connect_timeout)))
                   : failure("connecting to", why);
    }
    co_return last;
}

net::Task<Status> Connection::connect_through_proxy() {
    // The proxy resolves the name; a number can be checked here.
    boost::system::error_code no_number;
    auto const address = asio::ip::make_address(url_.host, no_number);
    reached_ = no_number ? AddressClass::everywhere : class_of(options_, address);
    auto const opened = co_await connect(*options_.proxy, std::nullopt, true);
    if (!opened) co_return opened;
    auto const host = url_.origin().substr(url_.origin().find("://") + 3);
    auto const request =
        fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n\r\n", host, host, options_.user_agent);
    boost::system::error_code why;
    tcp().expires_after(options_.connect_timeout);
    co_await asio::async_write(tcp(), asio::buffer(request), redirect_error(use_awaitable, why));
    if (why) co_return failure("asking the proxy for", why);
    http::response_parser<http::buffer_body> answer;
    answer.skip(true);
    co_await http::async_read_header(tcp(), buffer_, answer, redirect_error(use_awaitable, why));
    if (why) co_return failure("asking the proxy for", why);
    if (answer.get().result_int() / 100 != 2)
        co_return Error(Code::unavailable, fmt::format("the proxy {} answered {} for {}", options_.proxy->authority(),
                                                       answer.get().result_int(), host));
    if (buffer_.size() != 0) co_return Error(Code::corrupt, "the proxy sent data before it was asked for any");
    co_return ok();
}

net::Task<Status> Connection::handshake() {
    boost::system::error_code no_number;
    asio::ip::make_address(url_.host, no_number);
    if (no_number && SSL_set_tlsext_host_name(stream_.native_handle(), url_.host.c_str()) != 1)
        co_return Error(Code::invalid_argument, fmt::format("TLS takes no host like '{}'", url_.host));
    stream_.set_verify_callback(asio::ssl::host_name_verification(url_.host));
    tcp().expires_after(options_.connect_timeout);
    boost::system::error_code why;
    co_await stream_.async_handshake(asio::ssl::stream_base::client, redirect_error(use_awaitable, why));
    if (!why) co_return ok();
    long const verdict = SSL_get_verify_result(stream_.native_handle());
    bool const refused = ERR_GET_LIB(static_cast<unsigned long>(why.value())) == ERR_LIB_SSL &&
                         ERR_GET_REASON(static_cast<unsigned long>(why.value())) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (!refused) co_return failure("TLS with", why);
    co_return Error(Code::io, fmt::format("the certificate of {} is not trusted: {}", url_.authority(),
                                          verdict == X509_V_OK ? "it is for another host"
                                                               : X509_verify_cert_error_string(verdict)));
}

net::Task<Status> Connection::open(std::optional<AddressClass> led_from) {
    if (options_.proxy && !names_loopback(url_) && !goes_past_proxy(options_.no_proxy, url_)) {
        auto const opened = co_await connect_through_proxy();
        if (!opened) co_return opened;
        auto const allowed = check_class(reached_, led_from);
        if (!allowed) co_return allowed;
    } else {
        auto const opened = co_await connect(url_, led_from, false);
        if (!opened) co_return opened;
    }
    if (url_.tls) co_return co_await handshake();
    co_return ok();
}

net::Task<Status> Connection::write(std::span<char const> bytes) {
    boost::system::error_code why;
    asio::const_buffer const buffer(bytes.data(), bytes.size());
    tcp().expires_after(options_.stall_timeout);
    if (url_.tls) {
        co_await asio::async_write(stream_, buffer, redirect_error(use_awaitable, why));
    } else {
        co_await asio::async_write(tcp(), buffer, redirect_error(use_awaitable, why));
    }
    if (why) co_return failure("writing to", why);
    co_return ok();
}

net::Task<Status> Connection::write_body(RequestBody const& body) {
    if (body.path.empty()) {
        if (body.bytes.empty()) co_return ok();
        auto const sent = co_await write(body.bytes);
        if (sent) co_await keep_pace(body.bytes.size());
        co_return sent;
    }
    OpenFile const file(body.path);
    auto const piece_max = std::min(kSendPiece, pace_.piece_max());
    std::vector<char> piece(static_cast<std::size_t>(std::min<std::uint64_t>(body.size, piece_max)));
    for (std::uint64_t done = 0; done < body.size;) {
        auto const wanted = static_cast<std::size_t>(std::min<std::uint64_t>(body.size - done, piece.size()));
        auto const count = file.read(std::span(piece).first(wanted), body.offset + done);
        if (!count) co_return count.error();
        auto const sent = co_await write(std::span(piece).first(*count));
        if (!sent) co_return sent;
        done += *count;
        if (body.sent) body.sent(done);
        co_await keep_pace(*count);
    }
    co_return ok();
}

net::Task<void> Connection::keep_pace(std::uint64_t sent) {
    auto const wait = pace_.pass(sent, clock_.now());
    if (wait > Duration::zero()) co_await loop_.sleep(wait);
}

net::Task<Status> Connection::read_head(bool no_body) {
    boost::system::error_code why;
    for (int i = 0; i < kInterimMax; ++i) {
        parser_.emplace();
        parser_->header_limit(static_cast<std::uint32_t>(options_.header_bytes_max));
        parser_->body_limit(boost::none);
        parser_->skip(no_body);
        tcp().expires_after(options_.stall_timeout);
        if (url_.tls) {
            co_await http::async_read_header(stream_, buffer_, *parser_, redirect_error(use_awaitable, why));
        } else {
            co_await http::async_read_header(tcp(), buffer_, *parser_, redirect_error(use_awaitable, why));
        }
        if (why) co_return failure("reading from", why);
        if (parser_->get().result_int() / 100 != 1) co_return ok();
    }
    co_return Error(Code::corrupt, fmt::format("{} sent more than {} interim answers", url_.authority(), kInterimMax));
}

Result<Head> Connection::take_head() {
    auto const& message = parser_->get();
    Head head;
    head.status = message.result_int();
    for (auto const& field : message) {
        head.headers.emplace_back(ascii_lower(std::string_view(field.name_string().data(), field.name_string().size())),
                                  std::string(field.value().data(), field.value().size()));
        auto const& [name, value] = head.headers.back();
        if (name == "content-encoding" && !value.empty() && ascii_lower(value) != "identity")
            return Error(Code::corrupt,
                         fmt::format("{} sends the encoding '{}', which nobody asked for", url_.authority(), value));
    }
    if (auto const length = parser_->content_length(); length && !parser_->chunked()) head.content_length = *length;
    keep_alive_ = parser_->keep_alive() && !parser_->need_eof();
    framing_ = Framing::parser;
    if (head.content_length) {
        framing_ = *head.content_length > 0 ? Framing::length : Framing::done;
        remaining_ = *head.content_length;
    }
    if (parser_->is_done()) framing_ = Framing::done;  // 204 and 304, whatever they announce
    return head;
}

net::Task<Result<Head>> Connection::exchange(Exchange exchange) {
    auto const asked = co_await write(exchange.head);
    if (!asked) co_return asked.error();
    Status sent = ok();
    if (exchange.body != nullptr) sent = co_await write_body(*exchange.body);
    // Who refuses a body may say so and close before it has come.
    if (!sent && sent.error().code != Code::unavailable) co_return sent.error();
    auto const read = co_await read_head(exchange.no_body);
    if (!read) co_return sent ? read.error() : sent.error();
    auto head = take_head();
    if (!sent) keep_alive_ = false;
    co_return head;
}

net::Task<Result<std::size_t>> Connection::read_parsed(std::span<std::byte> into) {
    boost::system::error_code why;
    auto& body = parser_->get().body();
    std::size_t count = 0;
    while (count == 0 && !parser_->is_done()) {
        body.data = into.data();
        body.size = into.size();
        tcp().expires_after(options_.stall_timeout);
        if (url_.tls) {
            co_await http::async_read_some(stream_, buffer_, *parser_, redirect_error(use_awaitable, why));
        } else {
            co_await http::async_read_some(tcp(), buffer_, *parser_, redirect_error(use_awaitable, why));
        }
        if (why == http::error::need_buffer) why = {};
        if (why) co_return failure("reading from", why);
        count = into.size() - body.size;
    }
    if (parser_->is_done() && count == 0) framing_ = Framing::done;
    co_return count;
}

net::Task<Result<std::size_t>> Connection::read(std::span<std::byte> into) {
    if (framing_ == Framing::done) co_return std::size_t{0};
    if (framing_ == Framing::parser) co_return co_await read_parsed(into);
    auto const wanted = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), remaining_));
    std::size_t count = std::min(buffer_.size(), wanted);
    if (count > 0) {  // came with the head
        std::memcpy(into.data(), buffer_.data().data(), count);
        buffer_.consume(count);
    } else {
        boost::system::error_code why;
        asio::mutable_buffer const place(into.data(), wanted);
        tcp().expires_after(options_.stall_timeout);
        if (url_.tls) {
            count = co_await stream_.async_read_some(place, redirect_error(use_awaitable, why));
        } else {
            count = co_await tcp().async_read_some(place, redirect_error(use_awaitable, why));
        }
        if (why && count == 0) {
            auto error = failure("reading from", why);
            if (error.code == Code::unavailable) error.message += fmt::format(" {} bytes too early", remaining_);
            co_return error;
        }
    }
    remaining_ -= count;
    if (remaining_ == 0) framing_ = Framing::done;
    co_return count;
}

void Connection::close() {
    closed_ = true;
    tcp().close();
}

}  // namespace hearth::fetch
