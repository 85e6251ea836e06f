#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "net/loop.h"

namespace hearth::net {
namespace {

class PipeTest : public testing::Test {
protected:
    void SetUp() override { connect(SOCK_STREAM); }
    void TearDown() override { close_peer(); }

    void connect(int type) {
        close_peer();
        int ends[2];
        ASSERT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
        ours_ = ends[0];
        peer_ = ends[1];
    }

    void close_peer() {
        if (peer_ >= 0) ::close(peer_);
        peer_ = -1;
    }

    void open() {
        pipe_.emplace(loop_, ours_, [this](std::string_view bytes) { received_.append(bytes); }, [this] { ++closed_; });
    }

    // One read of the peer, empty at its end.
    std::string peer_read() {
        std::string chunk(1U << 16, '\0');
        ssize_t const count = ::recv(peer_, chunk.data(), chunk.size(), 0);
        chunk.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
        return chunk;
    }

    void peer_write(std::string_view text) {
        ASSERT_EQ(::send(peer_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    }

    Loop loop_;
    int ours_ = -1;
    int peer_ = -1;
    std::optional<Pipe> pipe_;
    std::string received_;
    int closed_ = 0;
};

TEST_F(PipeTest, DeliversBytesAndThenTheEnd) {
    open();
    peer_write("hello");
    close_peer();
    loop_.run();
    EXPECT_EQ(received_, "hello");
    EXPECT_EQ(closed_, 1);
}

TEST_F(PipeTest, OneTurnsSendsLeaveInOneSystemCall) {
    connect(SOCK_SEQPACKET);  // keeps the borders between calls
    open();
    loop_.post([&] {
        for (int i = 0; i < 10; ++i) pipe_->send(std::to_string(i));
        EXPECT_EQ(pipe_->queued(), 10U);
        loop_.post([&] { loop_.post([&] { loop_.stop(); }); });
    });
    loop_.run();
    EXPECT_EQ(peer_read(), "0123456789");
    EXPECT_EQ(pipe_->queued(), 0U);
}

TEST_F(PipeTest, MuchDataArrivesInOrderThroughAFullKernel) {
    open();
    std::string expected;
    for (std::size_t i = 0; i < 300; ++i) {
        std::string piece(1 + i * 97 % 20000, static_cast<char>('a' + i % 26));
        expected += piece;
        pipe_->send(std::move(piece));
    }
    EXPECT_EQ(pipe_->queued(), expected.size());
    std::string got;
    std::thread peer([&] {
        for (std::string chunk = peer_read(); !chunk.empty(); chunk = peer_read()) {
            got += chunk;
            if (got.size() >= expected.size()) break;
        }
        ::shutdown(peer_, SHUT_RDWR);
    });
    loop_.run();
    peer.join();
    EXPECT_GT(expected.size(), 2'000'000U);
    EXPECT_EQ(got, expected);
    EXPECT_EQ(closed_, 1);
}

TEST_F(PipeTest, ManySmallSendsPassTheGatherLimit) {
    open();
    loop_.post([&] {
        for (int i = 0; i < 1000; ++i) pipe_->send("xy");
        loop_.post([&] { pipe_->close(); });
    });
    loop_.run();
    std::string got;
    for (std::string chunk = peer_read(); !chunk.empty(); chunk = peer_read()) got += chunk;
    EXPECT_EQ(got.size(), 2000U);
}

TEST_F(PipeTest, CloseSendsWhatTheKernelTakesAndTellsOnceLater) {
    open();
    loop_.post([&] {
        pipe_->send("last words");
        pipe_->close();
        pipe_->close();
        pipe_->send("too late");
        EXPECT_EQ(closed_, 0);
        EXPECT_EQ(pipe_->queued(), 0U);
    });
    loop_.run();
    EXPECT_EQ(closed_, 1);
    EXPECT_EQ(peer_read(), "last words");
    EXPECT_EQ(peer_read(), "");
}

TEST_F(PipeTest, APeerThatIsGoneNeitherSignalsNorLosesItsLastWords) {
    open();
    peer_write("bye");
    close_peer();
    loop_.post([&] {
        pipe_->send("to nobody");
        pipe_->send("again");
    });
    loop_.run();
    EXPECT_EQ(received_, "bye");
    EXPECT_EQ(closed_, 1);
    EXPECT_EQ(pipe_->queued(), 0U);
}

TEST_F(PipeTest, MayBeDestroyedByItsOwnCallbacks) {
    pipe_.emplace(loop_, ours_, [&](std::string_view) { pipe_.reset(); }, [&] { ++closed_; });
    peer_write("x");
    loop_.run();
    EXPECT_EQ(closed_, 0);
    EXPECT_EQ(peer_read(), "");

    connect(SOCK_STREAM);
    pipe_.emplace(loop_, ours_, [](std::string_view) {}, [&] { pipe_.reset(); });
    close_peer();
    loop_.run();
    EXPECT_FALSE(pipe_.has_value());
}

TEST_F(PipeTest, ADescriptorThatIsNoneEndsAtOnce) {
    ::close(ours_);
    pipe_.emplace(loop_, -1, [](std::string_view) {}, [&] { ++closed_; });
    loop_.run();
    EXPECT_EQ(closed_, 1);
}

TEST_F(PipeTest, TheLoopsEndReleasesAnOpenPipe) {
    auto loop = std::make_unique<Loop>();
    auto pipe = std::make_unique<Pipe>(*loop, ours_, [](std::string_view) {}, [] {});
    loop->post([&] { loop->stop(); });
    loop->run();
    pipe.reset();
    loop.reset();
    EXPECT_EQ(peer_read(), "");
}

}  // namespace
}  // namespace hearth::net
