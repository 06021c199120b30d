/* rsa_key.h - keys for tests, known to everyone: the one of RFC 7515 A.2, and an EC key. */
#ifndef PERDURE_TESTS_RSA_KEY_H
#define PERDURE_TESTS_RSA_KEY_H

/* clang-format off */
#define RSA_KEY_PKCS8 \
    "-----BEGIN " "PRIVATE KEY-----\n" \
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCh+BYK4uPJtGXO\n" \
    "jS1lYmM2K5J9vinh8CR3/BYlzJChNuOL2TSXxbbqY913EeZ8dCn5VrD7io8ImtxL\n" \
    "aYk8wTM/U+3QGbh3hCUv7JFP5IV3aVlL6kKA0ywPVb9ilE8TA5a8bpvfbr3SvaNn\n" \
    "juygxmj3AbONv/s4yDQs4v5tJ/reSlpIdJed1LnPmt7Ex1sFhSwsD174pcF1A5L5\n" \
    "ROjtZMEQxrZHYJqkeDrrnGya11UxMFBji4NmXG9veoKjlnAqH2QbgtPr8jkiGUkf\n" \
    "toaHLFcW9Qr4NY2ai50Xw0Byj3+H2JoY2PyrZ62EWQwuz3WTOTY8BwNNb2BvniHg\n" \
    "VFbK5emhAgMBAAECggEAEq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyW\n" \
    "PEAeP88vLNO97IjlA7/GQ5sLKMgvfTeXZx9SE+7YwVol2NXOoAJe46sui395IW/G\n" \
    "O+pWJ1O0BkTGoVEn2bKVRUCgu+GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzj\n" \
    "kn439X0M/V51gfpRLI9JYanrC4D4qAdGcopV/0ZHHzQlBjudU2QvXt4ehNYTCBr6\n" \
    "XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl/x/jTj3ccPDVZFD9pIuhLhBOneufuBiB\n" \
    "4cS98l2SR/RQyGWSeWjnczT0QU91p1DhOVRuOopznQKBgQDgHMQQ60imZV1URk0K\n" \
    "pLttoLhyt3SmqdEf/kgHePDdtzEafpAu+cS191R2JiuoF2yzWXnwFDcqGigp5BNr\n" \
    "0AHQfD8/Lk8l1Mk09jxxCfui5nYooNyac8YFjm3vItzVCVDnEd3BbVWG8qf6deqE\n" \
    "lMGAg+C2V0L4oNXnP7LZcPAZRwKBgQC5A8R+CZW2MvRTLLHzwZkUXV866cff7tx6\n" \
    "kqa0finGG0KgeqlaZPxgCZnFp7AeAcCMtiynVlJ7vMVgePsLq6XtON4tB5kP9jAP\n" \
    "rq3rbAOal78eUH5OcED6eNuCV8ixEu1eWcPNCS/l1OW1EnXUEoEHKl54Xrrz2uNw\n" \
    "kgMTP1FZ1wKBgAcCn1dwJKufzBWQxWQp1vsM5fggqPN1qGb5y0MAk3g7/Ls5bkUp\n" \
    "5u9SN0Ai3Ya6hNnvWJMb7sXQX6U/zyO2M/hTip7tUeh7CXgwo59dkpN75gJLVds2\n" \
    "9+DAncu3KXU4f2Fa+7bLNrur53k8KwPOq2bbuTG69QtV7Jr5MR0AHWKNAoGBAIf/\n" \
    "evpitUf+4JYbLpvNXWcY052Mpz22aR84mY3nh3F2LF2mjMJDpTg7FmuyPcVw6EcG\n" \
    "yoAe9fa65iNqCq+jdw6PVNGo2hxfjSiZ8IIzHdsPXI89//pMjZcQK9r+CCoRjaZj\n" \
    "OYiIDktVWZzmevJuv6WywUqd57LE3Zar3dLSIkx1AoGAIYd7DHOhrWvxkwPQsRM2\n" \
    "tOgrjbcrfvtQJipd+DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd/QJQ3\n" \
    "ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp/gh6A56\n" \
    "03k2+ZQwVK0JKSHuLFkuQ3U=\n" \
    "-----END " "PRIVATE KEY-----\n"

#define RSA_KEY_PKCS1 \
    "-----BEGIN " "RSA PRIVATE KEY-----\n" \
    "MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0\n" \
    "l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pC\n" \
    "gNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSX\n" \
    "ndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD\n" \
    "Zlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8\n" \
    "q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35S\n" \
    "bEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5QO/xkObCyjIL303l2cf\n" \
    "UhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1O\n" \
    "n95fZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP1edYH6USyPSWGp6wuA+KgHRnKK\n" \
    "Vf9GRx80JQY7nVNkL17eHoTWEwga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f\n" \
    "40493HDw1WRQ/aSLoS4QTp3rn7gYgeHEvfJdkkf0UMhlknlo53M09EFPdadQ4TlU\n" \
    "bjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnE\n" \
    "tfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPG\n" \
    "BY5t7yLc1QlQ5xHdwW1VhvKn+nXqhJTBgIPgtldC+KDV5z+y2XDwGUcCgYEAuQPE\n" \
    "fgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYs\n" \
    "p1ZSe7zFYHj7C6ul7TjeLQeZD/YwD66t62wDmpe/HlB+TnBA+njbglfIsRLtXlnD\n" \
    "zQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7\n" \
    "DOX4IKjzdahm+ctDAJN4O/y7OW5FKebvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4\n" \
    "U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7q+d5PCsDzqtm\n" \
    "27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN\n" \
    "54dxdixdpozCQ6U4OxZrsj3FcOhHBsqAHvX2uuYjagqvo3cOj1TRqNocX40omfCC\n" \
    "Mx3bD1yPPf/6TI2XECva/ggqEY2mYzmIiA5LVVmc5nrybr+lssFKneeyxN2Wq93S\n" \
    "0iJMdQKBgCGHewxzoa1r8ZMD0LETNrToK423K377UCYqXfg5XMclbrjPbEC3YI1Z\n" \
    "NqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE\n" \
    "6yUXjoKNXKvUm7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1\n" \
    "-----END " "RSA PRIVATE KEY-----\n"

/* The same, encrypted with the password "x". */
#define RSA_KEY_ENCRYPTED \
    "-----BEGIN " "ENCRYPTED PRIVATE KEY-----\n" \
    "MIIFNTBfBgkqhkiG9w0BBQ0wUjAxBgkqhkiG9w0BBQwwJAQQo5XRACOa8b6KqyTi\n" \
    "hgB+lAICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEDnAvm/9j0+rD9F+\n" \
    "4r7eLxkEggTQzjdvRwjDB4r/+Hi1E4kznMpohwfILm5D6YbsXxmiGhvH/FVhP9Ko\n" \
    "vFTTneQD7r/5m16UMHFFN4B5ZEven2FLHMVxf8KuySpWh9w5vcadDJUtmML5U4IA\n" \
    "E9G97V9q/72WQKGmQQ2Cw66HdBQjrl1QDxuM90nm26UKSDhdhCZkDDyMNyKXhoCj\n" \
    "1xByRW0LE5xNPWe9re8BObPhvnDHSC1fXSrOXiC++rhbhr/bC8hvkA2Svdo5rF0m\n" \
    "YVJ+FhCRkAyHKtjEufPNwjN7exdXHSWNF64SCnuWksAZUjsFXZKKEmp6SEpBmNyJ\n" \
    "VrLItpfUaDYHTjTbOrU7S6y/UWKmN1mcNaTT5x1jMiEJgI8xbiLu7tChWhIs8apK\n" \
    "DGubPUgc058+wrcDE2E5LiVC3DP8dKVc4mOflLbU3BQ88P3s97aG6zIhV+FtEIb2\n" \
    "bPRmURvB3GOQJAyFaHE3GsgwXlOBQ/32RdTKzuRIj9eDccMHQulK3UipAEo3ftWL\n" \
    "g3ztEkjAPslK8sddAEubwwtZOWvz7mQskgqUtwxy5LK+3AJIEBOWP9C27gZtAHlg\n" \
    "KGbdCQMe+H6TPXgsqiYVvqt9h6RWEbr+/gRiwqVPQ9rx/l9bVSPC9wH3BwSdffXA\n" \
    "CTogkNOpe7Kra/sEgYItvYOYkqD+dadg1ZAP6kYALaG//lgK8CArNkJbGE4ef5O0\n" \
    "Esc8c9fQcuEjeluTY2oQXdBjQPkBedo326Qm28dGWRj/PZ6yH+Euydn8FI6JfUy8\n" \
    "jvXA4NjVRFZeYYALzCfOn/GtgU6ZlSOXvcci1dx/4iuG7sxC7SfE+NRx6BEA7J07\n" \
    "c7SKHESOQ320KsUKPyrcYkbIJptTR53ofTjfqaV2/ifneSqh/KUJUwQgcbgI7T1P\n" \
    "9RctNHKFcVFmxuJVzsPbD5cLp7iKkFLrVkGpqP8DrDi6G6R7YQe9WU+fxQ1jOziB\n" \
    "p1vg7Se4hm9szfXX/D4CAcVPqSV3EEVGcRF9CBkLUgLInUIvDv0R35G8Q+EsH+9g\n" \
    "KZZZIUafgLWDBl7Wj2o3NAzISwmM216nnowFHi59TdNmWNFX6s77teJOps4CErp0\n" \
    "Rceulgh8sVtx07L/hvUSPhiYJkrHXyUAsO2e51kk60ny9ll5hAXqk0zVOU9L2aHh\n" \
    "C5ILkCKcNTuyaVlcHOmMtnqsuMih6uI3EixGVfo58qL1/QRHYRg5FSJ1qpLoPvt+\n" \
    "t/wZ7eimoFJx09FKRTR6oxjeDo/R1bOECAVpd3MeO0r5tl3GxueoNmSFY3dqAApu\n" \
    "QHn8nQOAcdmnAgWQWrB9QexdQI6KDChxsih6IZwMFwQFH5d6gMJa2FAt30nvPYHc\n" \
    "gXAbBKK5UWTiudcveRRkXR7/nzAqTyP8oydeHDkmhFI/8PRg4Ubj5VAPX+LNyL05\n" \
    "MgwjfrYWwuTLL0IM8u7oshlZX0o1OSYiYYBvJOJz2JD0wKzocM8ySwi+flCGBNqG\n" \
    "5+QbrdsSHHm98pEmOfyfCkuaQawmvEzcnIsp1EYoeUITepA/ZLRj8kOnYSVKX0G4\n" \
    "qLjGujFAwi+GS5s3H3yukNNuF7Dr+1FNMeXIbEBAv9JWNcg2wmCuYPtr6jOisFB/\n" \
    "3NCZ1pXCz5K2sZHEsbwr7aRYdUztNORlKQH5nIbLwhpjrUJCiz2Ff5g=\n" \
    "-----END " "ENCRYPTED PRIVATE KEY-----\n"

#define RSA_KEY_PUBLIC \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj\n" \
    "NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz\n" \
    "P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo\n" \
    "9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB\n" \
    "EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX\n" \
    "FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp\n" \
    "oQIDAQAB\n" \
    "-----END PUBLIC KEY-----\n"

#define EC_KEY_PKCS8 \
    "-----BEGIN " "PRIVATE KEY-----\n" \
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA\n" \
    "AAAAAAAAAAAAAAAAAAAAAAAAMDmhRANCAAQm7869DunjSmaRh+GLOpEisvczlFtk\n" \
    "nMn5+SHp+drYEpAji96cx7szDRUMZ3BN0lrnBVIFdEtvMb9AcHRYctDm\n" \
    "-----END " "PRIVATE KEY-----\n"
/* clang-format on */

#endif
