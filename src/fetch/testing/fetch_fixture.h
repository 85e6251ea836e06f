// FetchFixture: a folder of its own, a client and a downloader on one loop; pauses
// are recorded and not waited for.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "digest/sha256.h"
#include "fetch/downloader.h"
#include "fetch/testing/file_server.h"

namespace hearth::fetch::test {

class FetchFixture : public ::testing::Test {
protected:
    FetchFixture() {
        // In memory where there is such a place: hundreds of downloads are synced here.
        std::filesystem::path const memory = "/dev/shm";
        auto const base = std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
        std::string pattern = (base / "hearth-fetch-XXXXXX").string();
        folder = ::mkdtemp(pattern.data());
        client_options.stall_timeout = std::chrono::seconds(20);
        // 127.0.0.2 and up stand for other machines.
        client_options.classify = [](std::span<std::uint8_t const> address) {
            if (address.size() == 4 && address[0] == 127 && address[3] == 2) return AddressClass::everywhere;
            if (address.size() == 4 && address[0] == 127 && address[3] == 3) return AddressClass::local;
            if (address.size() == 4 && address[0] == 127 && address[3] == 4) return AddressClass::link_local;
            return classify(address);
        };
        client_options.plain_http = PlainHttp::anywhere;
        options.piece_bytes = 16'384;
        options.save_bytes = 16'384;
        options.pause = [this](Duration asked) {
            pauses.push_back(asked);
            return Duration::zero();
        };
    }
    ~FetchFixture() override { std::filesystem::remove_all(folder); }

    [[nodiscard]] std::string path(std::string const& name = "file") const { return folder + "/" + name; }

    [[nodiscard]] FileRequest request(FileServer const& server, std::string const& target = "/file") const {
        FileRequest wanted;
        wanted.url = *parse_url(server.url(target));
        wanted.path = path();
        return wanted;
    }

    struct Got {
        unsigned status = 0;
        std::string body;
        Error error;
    };
    Got get(Request wanted) {
        Got got;
        net::Loop loop;
        auto client = Client::create(loop, client_options);
        EXPECT_TRUE(client);
        loop.spawn(get_into(**client, std::move(wanted), got));
        loop.run();
        return got;
    }

    static net::Task<void> get_into(Client& client, Request wanted, Got& got) {
        auto asked = co_await client.get(std::move(wanted));
        if (!asked) {
            got.error = asked.error();
            co_return;
        }
        got.status = (*asked)->status();
        auto const text = co_await (*asked)->read_all(1U << 20);
        if (text) got.body = *text;
        else got.error = text.error();
    }

    Result<FileResult> fetch(FileRequest wanted) { return fetch_all({std::move(wanted)}).front(); }

    // All at once.
    std::vector<Result<FileResult>> fetch_all(std::vector<FileRequest> const& wanted) {
        std::vector<Result<FileResult>> results(wanted.size(), Error(Code::internal, "did not end"));
        net::Loop loop;
        auto client = Client::create(loop, client_options);
        EXPECT_TRUE(client);
        Downloader downloader(loop, **client, options);
        running = &downloader;
        for (std::size_t i = 0; i < wanted.size(); ++i) loop.spawn(fetch_into(downloader, wanted[i], results[i]));
        loop.run();
        running = nullptr;
        return results;
    }

    net::Task<void> fetch_into(Downloader& downloader, FileRequest wanted, Result<FileResult>& result) {
        auto const listener = [this](FileProgress const& progress) {
            if (on_progress) on_progress(progress);
        };
        result = co_await downloader.fetch(std::move(wanted), listener);
    }

    [[nodiscard]] std::string content(std::string const& name = "file") const {
        std::ifstream file(path(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    [[nodiscard]] bool exists(std::string const& name) const { return std::filesystem::exists(path(name)); }
    // Nothing but `name` lies in the folder; nothing at all if it is empty.
    void expect_only(std::string const& name) const {
        for (auto const& entry : std::filesystem::directory_iterator(folder))
            EXPECT_EQ(entry.path().filename().string(), name);
        if (!name.empty()) {
            EXPECT_TRUE(exists(name));
        }
    }

    static std::string sha256(std::string_view bytes) { return digest::sha256_hex(bytes); }

    std::string folder;
    ClientOptions client_options;
    DownloadOptions options;
    std::vector<Duration> pauses;
    std::function<void(FileProgress const&)> on_progress;
    Downloader* running = nullptr;  // while fetch_all() runs
};

}  // namespace hearth::fetch::test
