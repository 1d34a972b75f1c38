import de.bwaldvogel.mongo.MongoBackend;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.List;
import org.h2.mvstore.MVStore;

/**
 * A MongoDB-compatible server on 127.0.0.1, for tests.
 *
 * <p>Arguments: PORT (0: the system chooses) and, optionally, the path of a data file; without one the data live in
 * memory. Prints the port in one line on standard output, then serves until it is killed or its standard input ends,
 * so that it never outlives the test run that started it.
 */
public final class Server {

    /** The library's newest own version speaks wire version 8; PyMongo 4.20 asks for 9 at least. */
    private enum Version implements MongoVersion {
        MONGO_4_4;

        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    /**
     * Answers one message after the other, and with copies. The library by itself puts its own documents into a reply,
     * and goes on changing them while the reply is being sent: a reader could see half of an update.
     */
    private static final class WholeRepliesBackend extends MemoryBackend {
        @Override
        public synchronized Document handleMessage(MongoMessage message) {
            return super.handleMessage(message).cloneDeeply();
        }
    }

    /**
     * The same, and hands every message's changes to the operating system before it is answered, so that an
     * acknowledged write outlives a killed process. The library itself writes a second behind.
     */
    private static final class WriteThroughBackend extends H2Backend {
        WriteThroughBackend(String file) {
            super(MVStore.open(file));
            getMvStore().setRetentionTime(0);
        }

        @Override
        public synchronized Document handleMessage(MongoMessage message) {
            Document reply = super.handleMessage(message).cloneDeeply();
            commit();
            return reply;
        }
    }

    private Server() {}

    public static void main(String[] arguments) throws IOException {
        MongoBackend backend = arguments.length > 1
                ? new WriteThroughBackend(arguments[1])
                : new WholeRepliesBackend();
        MongoServer server = new MongoServer(backend.version(Version.MONGO_4_4));
        server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        System.out.println(server.getLocalAddress().getPort());
        while (System.in.read() >= 0) {
            // Nothing is said on standard input: only its end matters.
        }
        System.exit(0);
    }
}
