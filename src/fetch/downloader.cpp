#include "fetch/downloader.h"

#include <boost/asio/thread_pool.hpp>

#include <fmt/format.h>

#include "fetch/transfer.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kThreads = 4;  // one writes and one hashes while others wait for the disk

}  // namespace

struct Downloader::Impl {
    Impl(net::Loop& l, Client& c, DownloadOptions o) : loop(l), client(c), options(std::move(o)), pool(kThreads) {}

    net::Task<void> run(std::shared_ptr<Transfer> transfer) {
        co_await transfer->run();
        transfers.erase(transfer->request().path);
    }

    net::Loop& loop;
    Client& client;
    DownloadOptions const options;
    boost::asio::thread_pool pool;
    std::map<std::string, std::shared_ptr<Transfer>> transfers;  // by path
};

Downloader::Downloader(net::Loop& loop, Client& client, DownloadOptions options)
    : impl_(std::make_unique<Impl>(loop, client, std::move(options))) {}

Downloader::~Downloader() { impl_->pool.join(); }

net::Task<Result<FileResult>> Downloader::fetch(FileRequest request,
                                                std::function<void(FileProgress const&)> on_progress) {
    auto const path = request.path;
    auto const running = impl_->transfers.find(path);
    std::shared_ptr<Transfer> transfer;
    if (running == impl_->transfers.end()) {
        transfer =
            std::make_shared<Transfer>(impl_->loop, impl_->client, impl_->pool, impl_->options, std::move(request));
        impl_->transfers.emplace(path, transfer);
        transfer->listen(std::move(on_progress));  // before its first step, which may be at once
        impl_->loop.spawn(impl_->run(transfer));
    } else {
        transfer = running->second;
        if (transfer->request().url != request.url || transfer->request().sha256 != request.sha256)
            co_return Error(Code::invalid_argument, fmt::format("'{}' is being downloaded from {}", path,
                                                                transfer->request().url.text_without_query()));
        transfer->listen(std::move(on_progress));
    }
    co_return co_await transfer->join();
}

void Downloader::cancel(std::string const& path) {
    auto const running = impl_->transfers.find(path);
    if (running != impl_->transfers.end()) running->second->cancel();
}

void Downloader::cancel_all() {
    for (auto const& [path, transfer] : impl_->transfers) transfer->cancel();
}

}  // namespace hearth::fetch
