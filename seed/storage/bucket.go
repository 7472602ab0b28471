package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	// The object stores that a URL may name, with those of gcs.go and azure.go.
	_ "gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob"

	"github.com/meshd-project/meshd/exchange/store"
)

const (
	metaExt  = ".meta"
	askTime  = 10 * time.Second // for a question without a body
	claimFor = 15 * time.Minute // then whoever made a claim is taken to be gone
	partSize = 8 << 20          // bytes sent to the object store at a time
)

// ErrClaimed says that somebody else is writing the blob: it will be there soon. It wraps store.ErrInUse.
var ErrClaimed = fmt.Errorf("%w: another seed writes it", store.ErrInUse)

// Bucket is a store.Keeper in an object store.
type Bucket struct {
	b    *blob.Bucket
	mark []byte // what its claims say: another's are told by it
}

// Check reports whether a URL can name a bucket, without asking it.
func Check(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("not a URL") // the parser's error repeats it
	}
	switch {
	case u.User != nil || u.Query().Has("awssecret") || u.Query().Has("access_key"):
		return errors.New("a URL must not hold credentials: give them to the provider's SDK (environment, file, instance role)")
	case u.Scheme == "file" && strings.HasPrefix(u.Path, "/") && u.Host == "":
		return nil
	case blob.DefaultURLMux().ValidBucketScheme(u.Scheme) && u.Scheme != "file" && u.Host != "":
		return nil
	}
	return fmt.Errorf("%q is not s3://BUCKET, gs://BUCKET, azblob://CONTAINER or file:///DIR", u.Redacted())
}

// Open opens the bucket that a URL of gocloud.dev/blob names. It asks nothing of the object store yet: one that is away
// now may be back later.
func Open(ctx context.Context, text string) (*Bucket, error) {
	if err := Check(text); err != nil {
		return nil, err
	}
	u, _ := url.Parse(text)
	if u.Scheme == "file" {
		q := u.Query()
		q.Set("create_dir", "true") // and temporary files beside the real ones, to be renamed
		q.Set("no_tmp_dir", "true")
		q.Set("metadata", "skip")
		u.RawQuery = q.Encode()
	}
	b, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", u.Redacted(), err)
	}
	return &Bucket{b, []byte("a seed is writing this blob: " + rand.Text() + "\n")}, nil
}

// Close gives up the connection.
func (b *Bucket) Close() error { return b.b.Close() }

func key(kind string, d digest.Digest) string {
	return path.Join(kind, string(d.Algorithm()), d.Encoded())
}

func blobKey(d digest.Digest) string { return key("blobs", d) }
func metaKey(d digest.Digest) string { return key("blobs", d) + metaExt }

// told gives an error of the object store its name here.
func told(err error) error {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return fmt.Errorf("%w: %w", store.ErrNotFound, err)
	case gcerrors.ResourceExhausted:
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return err
}

// Open implements store.Backend.
func (b *Bucket) Open(ctx context.Context, d digest.Digest) (store.Object, error) {
	o, err := b.open(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("bucket: open %s: %w", d, err)
	}
	return o, nil
}

func (b *Bucket) open(ctx context.Context, d digest.Digest) (*object, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	o := &object{b: b.b, key: blobKey(d)}
	r, err := b.b.NewReader(ctx, metaKey(d), nil)
	if err != nil {
		return nil, told(err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, store.MaxOutline+1))
	if err != nil {
		return nil, told(err)
	}
	if err := o.outline.UnmarshalBinary(text); err != nil {
		return nil, fmt.Errorf("outline: %w", err)
	}
	return o, nil
}

// Keep implements store.Keeper. ErrClaimed while somebody else is at it.
func (b *Bucket) Keep(ctx context.Context, d digest.Digest, o store.Outline, r io.ReaderAt) error {
	if err := b.keep(ctx, d, o, r); err != nil {
		return fmt.Errorf("bucket: keep %s: %w", d, err)
	}
	return nil
}

func (b *Bucket) keep(ctx context.Context, d digest.Digest, o store.Outline, r io.ReaderAt) error {
	meta, err := o.MarshalBinary()
	if err != nil {
		return err
	}
	if err := checkDigest(d); err != nil {
		return err
	}
	there, err := b.has(ctx, d)
	if there || err != nil {
		return err
	}
	if err := b.claim(ctx, d); err != nil {
		return err
	}
	defer b.unclaim(ctx, d)
	if there, err := b.has(ctx, d); there || err != nil { // written between the look and the claim
		return err
	}
	err = b.write(ctx, blobKey(d), func(ctx context.Context, w io.Writer) error { return store.Prove(ctx, w, d, o, r) })
	if err != nil {
		return err
	}
	return b.write(ctx, metaKey(d), func(_ context.Context, w io.Writer) error { _, err := w.Write(meta); return err })
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return store.ErrUnsupported
	}
	return nil
}

func (b *Bucket) has(ctx context.Context, d digest.Digest) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	there, err := b.b.Exists(ctx, metaKey(d))
	if err != nil {
		return false, told(err)
	}
	return there, nil
}

// write makes an object of what f writes, or none if f fails.
func (b *Bucket) write(ctx context.Context, key string, f func(context.Context, io.Writer) error) error {
	ctx, abort := context.WithCancel(ctx)
	defer abort()
	w, err := b.b.NewWriter(ctx, key, &blob.WriterOptions{
		BufferSize: partSize, ContentType: "application/octet-stream", DisableContentTypeDetection: true,
	})
	if err != nil {
		return told(err)
	}
	if err := f(ctx, w); err != nil {
		abort() // and Close throws away what was written
		_ = w.Close()
		return told(err)
	}
	if err := w.Close(); err != nil {
		return told(err)
	}
	return nil
}

// claim takes a blob's writing for this seed. A claim of its own, which it could not give back, holds nobody up. An object
// store that cannot tell who was first does without, and so does one that refuses for the sake of a claim that is not there
// (one that has just been given back, or a ghost, as gateways over file systems leave): the same bytes are then written
// twice at worst.
func (b *Bucket) claim(ctx context.Context, d digest.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	key := key("claims", d)
	err := b.b.WriteAll(ctx, key, b.mark, &blob.WriterOptions{IfNotExist: true})
	switch gcerrors.Code(err) {
	case gcerrors.OK, gcerrors.Unimplemented:
		return nil
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
	default:
		return told(err)
	}
	switch held, err := b.claimed(ctx, key); {
	case err != nil:
		return told(err)
	case held:
		return ErrClaimed
	}
	return told(b.b.WriteAll(ctx, key, b.mark, nil))
}

// claimed reports whether another seed has a claim that still counts.
func (b *Bucket) claimed(ctx context.Context, key string) (bool, error) {
	r, err := b.b.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	if time.Since(r.ModTime()) >= claimFor {
		return false, nil
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(len(b.mark))+1))
	return err == nil && !bytes.Equal(text, b.mark), err
}

// unclaim is for whoever has written the blob, or failed: others may try.
func (b *Bucket) unclaim(ctx context.Context, d digest.Digest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	if err := b.b.Delete(ctx, key("claims", d)); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		log.Debugw("claim not given back", "blob", d, "err", err)
	}
}

// Drop implements store.Keeper. ErrClaimed while somebody is writing the blob: its bytes are not to go from under its outline.
func (b *Bucket) Drop(ctx context.Context, d digest.Digest) error {
	if err := b.claim(ctx, d); err != nil {
		return fmt.Errorf("bucket: drop %s: %w", d, err)
	}
	defer b.unclaim(ctx, d)
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	for _, key := range []string{metaKey(d), blobKey(d)} {
		if err := b.b.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return fmt.Errorf("bucket: drop %s: %w", d, told(err))
		}
	}
	return nil
}

// Walk implements store.Keeper.
func (b *Bucket) Walk(ctx context.Context, f func(digest.Digest) error) error {
	list := b.b.List(&blob.ListOptions{Prefix: "blobs/"})
	for {
		o, err := list.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("bucket: list: %w", told(err))
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, "blobs/"), metaExt)
		d := digest.Digest(strings.Replace(name, "/", ":", 1))
		if !ok || checkDigest(d) != nil {
			continue
		}
		if err := f(d); err != nil {
			return err
		}
	}
}

// object is a blob in a bucket.
type object struct {
	b       *blob.Bucket
	key     string
	outline store.Outline
}

func (o *object) Size() int64                     { return o.outline.Size }
func (o *object) Outline() (store.Outline, error) { return o.outline, nil }
func (o *object) Close() error                    { return nil }

// ReadAt asks for each range anew: Stream is for long ones.
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	if off >= o.outline.Size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), o.outline.Size-off)]
	ctx, cancel := context.WithTimeout(context.Background(), readTime(int64(len(want))))
	defer cancel()
	r, err := o.Stream(ctx, off, int64(len(want)))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, want)
	if err == nil && len(want) < len(p) {
		err = io.EOF
	}
	return n, err
}

// Stream opens n bytes from off. The body ends with ctx. store.ErrInvalid if the object has another size than the blob.
func (o *object) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := o.b.NewRangeReader(ctx, o.key, off, n, nil)
	if err != nil {
		return nil, fmt.Errorf("bucket: read %s: %w", o.key, o.why(ctx, told(err)))
	}
	if size := r.Size(); size != o.outline.Size {
		_ = r.Close()
		return nil, fmt.Errorf("bucket: read %s: %w: %d bytes of %d", o.key, store.ErrInvalid, size, o.outline.Size)
	}
	return r, nil
}

// why tells a range that an object is too short for from a bucket that fails: providers have no common word for it.
func (o *object) why(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if a, bad := o.b.Attributes(ctx, o.key); bad == nil && a.Size != o.outline.Size {
		return fmt.Errorf("%w: %d bytes of %d: %w", store.ErrInvalid, a.Size, o.outline.Size, err)
	}
	return err
}

// readTime is how long n bytes may take: 1 MiB/s is the least pace.
func readTime(n int64) time.Duration {
	return askTime + time.Duration(n>>20)*time.Second
}
